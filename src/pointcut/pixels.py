"""Pictures to the tensors that networks take, and masks back to the picture's size."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from functools import lru_cache, partial
from typing import NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor

from .errors import InvalidPrompt
from .images import MEAN, STD, Frame
from .nets.layers import bilinear
from .nets.promptable import Promptable
from .nets.prompts import Prompts
from .nets.running import Download, upload
from .prompts import Prompt

ROUGH_SCALE, ROUGH_SHIFT = 20.0, -10.0
"""A rough mask becomes logits of +-10, as in https://github.com/facebookresearch/sam2/blob/main/sam2/modeling/sam2_base.py
(`_use_mask_as_output`)."""


def to_square(image: np.ndarray, frame: Frame, device: torch.device) -> Tensor:
    """RGB uint8 (H, W, 3) -> normalised float32 (1, 3, S, S), exactly as the family's reference does it.

    SAM 2 stretches in float (antialiased bilinear); SAM 1 resizes in 8 bits with Pillow and pads with zeros after normalising.
    """
    mean, std = normalisation(device)
    height, width = frame.content
    if frame.fit == "pad":
        image = np.asarray(Image.fromarray(image).resize((width, height), Image.Resampling.BILINEAR))
    planes = upload(image, device).permute(2, 0, 1)[None].contiguous()  # (1, 3, H, W)
    if frame.fit == "squash":  # a plane at a time: the same numbers, and a third of the time for a telephone's photograph
        side = frame.side, frame.side
        squares = [
            F.interpolate(plane.float().div_(255), side, mode="bilinear", antialias=True)
            for plane in torch.split(planes, 1, dim=1)
        ]
        pixels = torch.cat(squares, dim=1)
    else:
        pixels = planes.float().div_(255)
    pixels = (pixels - mean) / std
    return F.pad(pixels, (0, frame.side - width, 0, frame.side - height))


@lru_cache(maxsize=8)
def normalisation(device: torch.device) -> tuple[Tensor, Tensor]:
    """Mean and standard deviation of each channel, (1, 3, 1, 1) each."""
    with torch.inference_mode(False):  # they outlive whoever asks first
        mean, std = (torch.tensor(v, dtype=torch.float32, device="cpu").view(1, 3, 1, 1).to(device) for v in (MEAN, STD))
    return mean, std


def smaller(image: np.ndarray, long_side: int) -> np.ndarray:
    """A picture (H, W, 3) with its longer side at most so long; itself, if it is."""
    height, width = image.shape[:2]
    scale = long_side / max(height, width)
    if scale >= 1:
        return image
    size = max(1, round(width * scale)), max(1, round(height * scale))
    return np.asarray(Image.fromarray(image).resize(size, Image.Resampling.BILINEAR))


def frame_to_square(image: np.ndarray, side: int, device: torch.device) -> Tensor:
    """A video's frame, RGB uint8 (H, W, 3) -> normalised float32 (1, 3, S, S): stretched in 8 bits by Pillow's bicubic filter.

    Source: https://github.com/facebookresearch/sam2/blob/main/sam2/utils/misc.py (_load_img_as_tensor)
    """
    small = np.asarray(Image.fromarray(image).resize((side, side), Image.Resampling.BICUBIC))
    mean, std = normalisation(device)
    return (upload(small, device).permute(2, 0, 1)[None].float().div_(255) - mean) / std


def to_picture(logits: Tensor, frame: Frame) -> Tensor:
    """Low-resolution logits (N, K, h, w) -> logits of the picture's size (N, K, H, W)."""
    return bilinear(fitted(logits, frame), (frame.height, frame.width))


class Axis(NamedTuple):
    """How one axis is enlarged: pixel p is (1 - share) * value[low] + share * value[low + 1]."""

    values: int
    """How many values there are."""
    low: Tensor
    """(pixels,) int64."""
    share: Tensor
    """(pixels,) float32."""
    first: Tensor
    """(values + 1,) int32: the first pixel of each value's own stretch, and how many pixels there are."""
    shares: Tensor
    """(values, longest stretch) float32: the shares of each stretch's pixels, and no number where it is shorter."""

    @classmethod
    @lru_cache(maxsize=16)
    def enlarging(cls, values: int, pixels: int, device: torch.device) -> Axis:
        """As `F.interpolate(mode="bilinear", align_corners=False)` does it, in float32."""
        scale = torch.tensor(values / pixels, dtype=torch.float32, device="cpu")
        source = (scale * (torch.arange(pixels, dtype=torch.float32, device="cpu") + 0.5) - 0.5).clamp_(min=0)
        low = source.long().clamp_(max=values - 1)
        first = torch.searchsorted(low, torch.arange(values + 1, device="cpu"))
        own = first[:-1, None] + torch.arange(int(first.diff().max()), device="cpu")
        shares = torch.where(own < first[1:, None], (source - low)[own.clamp(max=pixels - 1)], torch.nan)
        return cls(values, *(x.to(device) for x in (low, source - low, first.int(), shares)))

    def reached(self, true: Tensor) -> slice:
        """The pixels that touch a true value, from the first to the last: (values,) bool."""
        places = true.nonzero()[:, 0]
        if not len(places):
            return slice(0, 0)
        return slice(int(self.first[max(0, int(places[0]) - 1)]), int(self.first[int(places[-1]) + 1]))

    def needed(self, pixels: slice) -> slice:
        """The values that those pixels lie between."""
        if pixels.stop == pixels.start:
            return slice(0, 0)
        return slice(int(self.low[pixels.start]), min(self.values, int(self.low[pixels.stop - 1]) + 2))

    def stretched(self, values: Tensor, pixels: slice, dim: int, start: int = 0) -> Tensor:
        """Some pixels along `dim`, of values the first of which is the axis' value `start`."""
        low, share = self.low[pixels] - start, self.share[pixels].view(-1, *[1] * (values.ndim - 1 - dim))
        near, far = values.index_select(dim, low), values.index_select(dim, (low + 1).clamp_(max=values.shape[dim] - 1))
        return between(near, far, share)


def between(near: Tensor, far: Tensor, share: Tensor) -> Tensor:
    """`near`, but for a share of `far`; both are used up."""
    return near.mul_(1 - share).add_(far.mul_(share))


STRETCHED_TOGETHER = 1 << 19
"""Pixels: more of them do not stay in a processor's cache between the steps."""


def stretched(mask: Tensor, down: Axis, across: Axis, rows: slice, columns: slice) -> Iterator[tuple[slice, np.ndarray]]:
    """Some rows and columns of one mask (h, w) enlarged, a few rows at a time: which, and their values (n, columns) float32.

    The very products and sums of `F.interpolate`, in steps that a CPU is faster at.
    """
    needed = down.needed(rows)
    wide = across.stretched(mask[needed], columns, 1)
    together = max(1, STRETCHED_TOGETHER // max(1, columns.stop - columns.start))
    for start in range(rows.start, rows.stop, together):
        some = slice(start, min(start + together, rows.stop))
        yield some, down.stretched(wide, some, 0, needed.start).cpu().numpy()


def drawn(logits: Tensor, frame: Frame) -> np.ndarray:
    """Low-resolution logits (N, K, h, w) -> masks of the picture's size, bool (N, K, H, W)."""
    return drawing(logits, frame)()


def drawing(logits: Tensor, frame: Frame) -> Callable[[], np.ndarray]:
    """`drawn`, begun on a GPU and not waited for yet."""
    if logits.device.type == "cpu":
        return partial(_drawn_where_they_lie, logits, frame)
    download = Download(to_picture(logits, frame) > 0)
    return lambda: download.arrays()[0]


@torch.inference_mode()
def _drawn_where_they_lie(logits: Tensor, frame: Frame) -> np.ndarray:
    """The same on a CPU: where no logit is positive no pixel is."""
    small = fitted(logits, frame).flatten(0, 1)  # (N * K, h, w)
    size = frame.height, frame.width
    masks = np.zeros((*logits.shape[:2], *size), bool)
    down, across = (Axis.enlarging(n, pixels, small.device) for n, pixels in zip(small.shape[1:], size, strict=True))
    for one, mask in zip(small, masks.reshape(-1, *size), strict=True):
        true = one > 0
        rows, columns = down.reached(true.any(1)), across.reached(true.any(0))
        for some, values in stretched(one, down, across, rows, columns):
            np.greater(values, 0, out=mask[some, columns])
    return masks


def fitted(logits: Tensor, frame: Frame) -> Tensor:
    """The part of low-resolution logits (..., h, w) that shows the picture, ready to be enlarged to its size.

    SAM 1 enlarges to the padded square first, and cuts the padding off there.
    """
    if frame.fit == "squash":
        return logits
    height, width = frame.content
    square = bilinear(logits.reshape(-1, 1, *logits.shape[-2:]), (frame.side, frame.side))
    return square.reshape(*logits.shape[:-2], frame.side, frame.side)[..., :height, :width]


def prompts_to_model(prompts: Sequence[Prompt], frame: Frame, net: Promptable) -> Prompts:
    """Prompts of equal shape, in pixels of the picture, to those of the model's square. Raises InvalidPrompt."""
    first, device = prompts[0], net.device
    points = np.stack([p.points for p in prompts])
    has_points = points.shape[1] > 0
    boxes = [p.box for p in prompts if p.box is not None]  # of all or of none
    masks = [_mask_prompt(p.mask, frame, net) for p in prompts if p.mask is not None]
    return Prompts(
        points=upload(frame.points_to_model(points), device) if has_points else None,
        labels=upload(np.stack([p.labels for p in prompts]), device) if has_points else None,
        boxes=upload(frame.boxes_to_model(np.stack(boxes)), device) if boxes else None,
        masks=None if first.mask is None else torch.stack(masks)[:, None],
    )


def _mask_prompt(mask: np.ndarray, frame: Frame, net: Promptable) -> Tensor:
    side = 4 * net.prompt_encoder.side
    if mask.dtype == bool:
        return rough_to_logits(mask, frame, side, net.device)
    if mask.shape != (side, side):
        raise InvalidPrompt(f"mask logits of this model are ({side}, {side}), got {mask.shape}")
    return upload(mask, net.device)


def rough_to_square(mask: np.ndarray, side: int, device: torch.device) -> Tensor:
    """A bool mask (H, W) -> (1, 1, S, S) float32 of 0 and 1, as the reference brings a video's masks to its square."""
    square = upload(mask, device)[None, None].float()
    if square.shape[2:] == (side, side):
        return square
    return (F.interpolate(square, (side, side), mode="bilinear", antialias=True) >= 0.5).float()


def rough_to_logits(mask: np.ndarray, frame: Frame, side: int, device: torch.device) -> Tensor:
    """A rough bool mask (H, W) -> mask-prompt logits (side, side)."""
    height, width = (max(1, round(n * side / frame.side)) for n in frame.content)
    share = upload(mask, device)[None, None].float()
    share = F.interpolate(share, (height, width), mode="bilinear", antialias=True)
    share = F.pad(share, (0, side - width, 0, side - height))
    return (share * ROUGH_SCALE + ROUGH_SHIFT)[0, 0]

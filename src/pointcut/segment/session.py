"""An image, encoded once: prompts go in, segments come out."""

from __future__ import annotations

import hashlib
import io
import json
import os
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from functools import cached_property
from pathlib import Path

import numpy as np
import torch
from numpy.typing import ArrayLike
from PIL import Image
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from .. import rle
from ..automatic.config import AutomaticConfig, Crop, default_config
from ..automatic.generate import View, search
from ..errors import InputError, InvalidPrompt, WeightsMismatch
from ..files import replacing
from ..images import Frame, open_image
from ..nets.decoder import ImageFeatures, ImageSide, Masks, stability
from ..nets.promptable import Promptable
from ..nets.prompts import FOREGROUND, Prompts
from ..nets.running import Download, encoding, inference
from ..nets.sam1 import Sam1
from ..pixels import drawing, prompts_to_model, smaller, to_picture, to_square
from ..prompts import PointsLike, Prompt, parse_prompts
from ..rle import Rle
from ..segments import Preview, Segments
from .zoom import TIMES, zoom_in

FILE_KIND = "pointcut-encoded-image"
FILE_VERSION = "1"


@dataclass(frozen=True, eq=False)
class Encoder:
    """A network and its name."""

    net: Promptable
    name: str

    def frame(self, height: int, width: int) -> Frame:
        """How a picture of that size lies in the network's square."""
        return Frame(height, width, self.net.input_size, "pad" if isinstance(self.net, Sam1) else "squash")

    def encode(self, images: Sequence[np.ndarray], long_side: int | None = None) -> list[EncodedImage]:
        """RGB pictures (H, W, 3) uint8, of any sizes, in one batch; the network sees them no larger than `long_side`."""
        frames = [self.frame(*image.shape[:2]) for image in images]
        device = self.net.device
        seen = images if long_side is None else [smaller(image, long_side) for image in images]
        squares = torch.cat([to_square(image, frame, device) for image, frame in zip(seen, frames, strict=True)])
        return self.encode_squares(squares, images, frames)

    def encode_squares(self, squares: Tensor, images: Sequence[np.ndarray], frames: Sequence[Frame]) -> list[EncodedImage]:
        """The tensor-level call under it: normalised squares (B, 3, S, S) of pictures (H, W, 3) and their frames."""
        encoded = []
        with encoding(self.net.device):
            batch = self.net.encode(squares.to(self.net.encoding_dtype))
        with inference(self.net.device):
            several = len(images) > 1  # then each gets tensors of its own: one that is kept must not keep the others
            for i, (image, frame) in enumerate(zip(images, frames, strict=True)):
                high_res = tuple(x[i : i + 1].to(torch.float32, copy=several) for x in batch.high_res)
                features = ImageFeatures(batch.embedding[i : i + 1].to(torch.float32, copy=several), high_res)
                encoded.append(EncodedImage(image, frame, self.net.image_side(features), self))
        return encoded


@dataclass(frozen=True, eq=False)
class EncodedImage:
    """One picture, encoded by one model. Immutable: keep it, cache it, use it from several threads."""

    image: np.ndarray
    """(H, W, 3) uint8 RGB, upright."""
    frame: Frame
    """How the picture lies in the model's square."""
    side: ImageSide
    """Features and the decoder's image-side work, on the model's device."""
    encoder: Encoder
    """Who encoded it, and answers prompts."""

    def __repr__(self) -> str:
        return f"<EncodedImage: {self.frame.width} x {self.frame.height}, by {self.model} on {self.device}>"

    @property
    def size(self) -> tuple[int, int]:
        """(height, width) in pixels."""
        return self.frame.height, self.frame.width

    @property
    def net(self) -> Promptable:
        return self.encoder.net

    @property
    def model(self) -> str:
        """The model's name."""
        return self.encoder.name

    @property
    def features(self) -> ImageFeatures:
        return self.side.features

    @property
    def device(self) -> torch.device:
        return self.features.embedding.device

    def segment(
        self,
        points: PointsLike | None = None,
        labels: PointsLike | None = None,
        boxes: ArrayLike | None = None,
        mask: ArrayLike | None = None,
        previous: Segments | None = None,
        multimask: bool | None = None,
    ) -> Segments:
        """Masks for one object or many.

        points: (T, 2) x, y in picture pixels for one object, (2,) for one click, or a list of (T, 2) for N objects, each of any
            length.
        labels: (T,), one number for one click, or a list per object: 1 this, 0 not this; all 1 by default.
        boxes: (4,) x0, y0, x1, y1, or (N, 4).
        mask: a rough mask, bool (H, W) or (N, H, W); or float low-resolution logits of the model's mask size.
        previous: the segments to refine: the best mask of each object is fed back; give all clicks so far with it.
        multimask: True: three candidates an object; False: one; None: three where a single click is all there is.

        Raises InvalidPrompt.
        """
        if previous is not None and mask is not None:
            raise InvalidPrompt("give previous (segments to refine) or mask (a rough mask), not both")
        prompts = parse_prompts(points, labels, boxes, mask if previous is None else self._fed_back(previous), self.size)
        groups: dict[tuple[int, bool, bool, bool], list[int]] = {}
        for i, prompt in enumerate(prompts):
            many = prompt.ambiguous if multimask is None else multimask
            key = len(prompt.points), prompt.box is not None, prompt.mask is not None, many
            groups.setdefault(key, []).append(i)  # equal shapes are decoded together, and nothing is padded
        parts = [
            self._pack(self.decode(prompts_to_model([prompts[i] for i in rows], self.frame, self.net), key[3]), rows)
            for key, rows in groups.items()
        ]
        fields = parts[0]
        if len(parts) > 1:
            order = np.argsort(np.concatenate([part["objects"] for part in parts]), kind="stable")
            fields = {name: np.concatenate([part[name] for part in parts])[order] for name in fields}
        return Segments(self.image, prompts=prompts, object_scores=fields.pop("object_scores", None), **fields)

    def preview(
        self, points: PointsLike | None = None, labels: PointsLike | None = None, boxes: ArrayLike | None = None
    ) -> Preview:
        """One object's best mask at low resolution, for hovering: nothing is enlarged.

        Takes points, labels and a box of one object, as `segment` does; `nano` looks at it once, where `segment` looks at the
        answer to a box again. Raises InvalidPrompt.
        """
        prompts = parse_prompts(points, labels, boxes, None, self.size)
        if len(prompts) != 1:
            raise InvalidPrompt(f"a preview shows one object, got prompts of {len(prompts)}; use segment")
        with inference(self.net.device):
            given = prompts_to_model(prompts, self.frame, self.net)
            best = self.net.best_candidate(self._side_for(given), given, prompts[0].ambiguous)
        height, width = self._low_res(best.logits)
        mask, score = Download(best.logits[0, 0, :height, :width] > 0, best.scores[0, 0]).arrays()
        return Preview(mask, float(score))

    def segment_everything(
        self, config: AutomaticConfig | None = None, progress: Callable[[int, int], None] | None = None
    ) -> Segments:
        """Automatic masks: everything in the picture, without a prompt; best first, each an object of its own.

        config: how to search; by default SAM 2's 32 x 32 points and thresholds (for `nano` its own, `default_config`).
        progress: called with (points done, points in all) now and then; what it raises ends the search.
        The masks come as run lengths (`Segments.stored`); their logits are kept in 16 bits, and are of the crop that a mask was
        found in.
        """
        height, width = self.size
        found = search(self.view, lambda crop: self.crop(crop).view, config or default_config(self.model), progress)
        return Segments(
            self.image,
            stored=tuple(Rle(size=[height, width], counts=rle.compress(counts)) for counts in found.counts),
            scores=found.scores,
            stability=found.stability,
            logits=found.logits.astype(np.float32),
            objects=np.arange(len(found)),
            prompts=tuple(Prompt(point[None], np.array([FOREGROUND])) for point in found.points),
        )

    def zoom_in(self, cut: Segments, times: float = TIMES, progress: Callable[[int, int], None] | None = None) -> Segments:
        """Draws the best mask of each object anew from what is around it, encoded on its own: finer where things are small.

        cut: what `segment` or `segment_everything` gave of this picture. times: how many times as long and high as the
            object (as its box, if it was told by one) its surroundings are. progress: called with (done, of all).

        One mask an object, as run lengths; the same prompts. It takes an encoding of each object that does not fill the picture
        anyway, and each answer goes in again once, as a rough mask. A box alone is asked anew; what a click gave is taken for
        what was meant, so that its score stays. `logits` are those of a rough mask.
        Raises InvalidPrompt where the segments are of a picture of another size, InputError for `times`.
        """
        return zoom_in(self, cut, times, progress)

    @property
    def view(self) -> View:
        """What the automatic search needs of it."""
        return View(self.net, self.side_for_many, self.frame)

    def crop(self, crop: Crop) -> EncodedImage:
        """A part of the picture, encoded on its own."""
        return self.encoder.encode([self.image[crop.y0 : crop.y1, crop.x0 : crop.x1]])[0]

    def decode(self, prompts: Prompts, multimask: bool) -> Masks:
        """The tensor-level call under `segment`: prompts in pixels of the model's square -> low-resolution masks."""
        with inference(self.net.device):
            return self.net.predict(self._side_for(prompts), prompts, multimask)

    @cached_property
    def side_for_many(self) -> ImageSide:
        """`side` and what pays from the second click on; made with the first."""
        with inference(self.net.device):
            return self.net.for_many(self.side)

    def _side_for(self, prompts: Prompts) -> ImageSide:
        """Clicks draw on a part of the picture; boxes and rough masks on so much of it that nothing is spared."""
        return self.side_for_many if prompts.clicks_alone else self.side

    def masks_of(self, logits: Tensor) -> Tensor:
        """Low-resolution logits (N, K, h, w) -> logits of the picture's size (N, K, H, W)."""
        with torch.inference_mode():
            return to_picture(logits, self.frame)

    def save(self, path: str | os.PathLike[str]) -> Path:
        """Writes features, picture and frame to one safetensors file; `load` answers prompts from it at once."""
        path = Path(path)
        picture = io.BytesIO()
        Image.fromarray(self.image).save(picture, format="PNG", compress_level=1)
        tensors = {
            "embedding": self.features.embedding,
            **{f"high_res_{i}": x for i, x in enumerate(self.features.high_res)},
            "picture_png": torch.frombuffer(bytearray(picture.getvalue()), dtype=torch.uint8),
        }
        metadata = {
            "kind": FILE_KIND,
            "version": FILE_VERSION,
            "model": self.model,
            "decoder": decoder_digest(self.net),
            "frame": json.dumps(asdict(self.frame)),
        }
        with replacing(path) as temporary:
            save_file({k: v.cpu().contiguous() for k, v in tensors.items()}, temporary, metadata)
        return path

    def _fed_back(self, previous: Segments) -> np.ndarray:
        if not isinstance(previous, Segments):
            raise InvalidPrompt(f"previous is what segment gave (Segments), got {type(previous).__name__}; give arrays as mask")
        if previous.image.shape != self.image.shape:
            raise InvalidPrompt("previous belongs to another picture: its size differs")
        return previous.best.logits

    def _low_res(self, logits: Tensor) -> tuple[int, int]:
        """The (height, width) of the picture in low-resolution logits."""
        height, width = (round(n * logits.shape[-1] / self.frame.side) for n in self.frame.content)
        return height, width

    def _pack(self, masks: Masks, rows: list[int]) -> dict[str, np.ndarray]:
        """Masks of some objects as the flat fields of `Segments`."""
        logits = masks.logits
        count = logits.shape[1]
        height, width = self._low_res(logits)
        fields = {
            "scores": masks.scores.flatten(0, 1),
            "stability": stability(logits[..., :height, :width], offset=1.0).flatten(0, 1),
            "logits": self.net.limited(logits).flatten(0, 1),
        }
        if masks.object_score is not None:
            fields["object_scores"] = masks.object_score[:, 0].repeat_interleave(count)
        with torch.inference_mode():
            drawn = drawing(logits, self.frame)
            download = Download(*fields.values())
            stored = drawn()
        arrays = dict(zip(fields, download.arrays(), strict=True))
        return {"stored": stored.reshape(-1, *stored.shape[2:]), "objects": np.repeat(rows, count), **arrays}


def decoder_digest(net: Promptable) -> str:
    """Tells decoders apart: a digest of the weights that meet the saved features."""
    digest = hashlib.sha256()
    for module in (net.prompt_encoder, net.mask_decoder):
        for name, value in module.state_dict().items():
            digest.update(name.encode())
            digest.update(value.cpu().contiguous().numpy().tobytes())
    return digest.hexdigest()[:16]


def saved_model(path: str | os.PathLike[str]) -> str:
    """The name of the model that wrote a saved EncodedImage. Raises InputError."""
    try:
        with safe_open(path, "pt") as file:
            metadata = file.metadata() or {}
    except (OSError, SafetensorError) as error:
        raise InputError(f"{path}: not an encoded image ({error})") from None
    if metadata.get("kind") != FILE_KIND:
        raise InputError(f"{path}: not an encoded image written by EncodedImage.save")
    if metadata.get("version") != FILE_VERSION:
        raise InputError(f"{path}: written by another version of Pointcut ({metadata.get('version')}); encode it again")
    return metadata["model"]


def load_encoded(path: str | os.PathLike[str], encoder: Encoder) -> EncodedImage:
    """Reads what `EncodedImage.save` wrote. Raises InputError, or WeightsMismatch if another decoder wrote it."""
    model, net = saved_model(path), encoder.net
    with safe_open(path, "pt", device=str(net.device)) as file:
        metadata = file.metadata()
        tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118  # not a dict
    if metadata["decoder"] != decoder_digest(net):
        raise WeightsMismatch(
            f"{path}: was encoded by {model} with other weights; load that model, or encode the picture again"
        )
    high_res = tuple(tensors[name] for name in sorted(tensors) if name.startswith("high_res_"))
    with inference(net.device):
        side = net.image_side(ImageFeatures(tensors["embedding"], high_res))
    image = open_image(tensors["picture_png"].cpu().numpy().tobytes())
    return EncodedImage(image, Frame(**json.loads(metadata["frame"])), side, replace(encoder, name=model))

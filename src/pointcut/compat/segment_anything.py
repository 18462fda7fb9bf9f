"""The names of Meta's `segment_anything`, with its shapes, types, defaults and error texts.

    from pointcut.compat.segment_anything import SamPredictor, sam_model_registry

Source: https://github.com/facebookresearch/segment-anything (predictor.py, automatic_mask_generator.py, build_sam.py,
utils/transforms.py). Under the registry's further name `nano` stands the built-in model, which needs no checkpoint.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from copy import deepcopy
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor

from ..automatic.config import AutomaticConfig
from ..images import Frame, open_image
from ..nets.promptable import Promptable
from ..nets.prompts import Prompts
from ..nets.running import as_tensor
from ..nets.sam1 import Sam1
from ..pixels import normalisation
from ..segment.session import EncodedImage, Encoder
from ..weights.load import CONFIGS, load_network, network_from
from ..weights.read import read_tensors
from .automatic import MaskGenerator, grids

__all__ = [
    "ResizeLongestSide",
    "SamAutomaticMaskGenerator",
    "SamPredictor",
    "build_sam",
    "build_sam_vit_b",
    "build_sam_vit_h",
    "build_sam_vit_l",
    "build_sam_vit_t",
    "sam_model_registry",
]

Checkpoint = str | os.PathLike[str] | None


def build_network(name: str, checkpoint: Checkpoint) -> Promptable:
    """The network of a row of the table, with a checkpoint's weights or, as in the reference, random ones without (`nano`: its
    own)."""
    if checkpoint is None and name == "nano":
        net = load_network(name).net
    elif checkpoint is None:
        net = CONFIGS[name].build()
        net.bake()
    else:
        net, _ = network_from(read_tensors(_existing(checkpoint)), os.fspath(checkpoint), name)
    net.settle(torch.float32)
    return net


def _existing(checkpoint: str | os.PathLike[str]) -> Path:
    path = Path(checkpoint).expanduser()
    if not path.is_file():
        raise FileNotFoundError(f"[Errno 2] No such file or directory: {os.fspath(checkpoint)!r}")
    return path


def build_sam_vit_h(checkpoint: Checkpoint = None) -> Promptable:
    return build_network("sam-vit-h", checkpoint)


def build_sam_vit_l(checkpoint: Checkpoint = None) -> Promptable:
    return build_network("sam-vit-l", checkpoint)


def build_sam_vit_b(checkpoint: Checkpoint = None) -> Promptable:
    return build_network("sam-vit-b", checkpoint)


def build_sam_vit_t(checkpoint: Checkpoint = None) -> Promptable:
    """MobileSAM (the name that `mobile_sam` adds)."""
    return build_network("mobile-sam", checkpoint)


def build_nano(checkpoint: Checkpoint = None) -> Promptable:
    """The built-in model; a checkpoint replaces its weights."""
    return build_network("nano", checkpoint)


build_sam = build_sam_vit_h

sam_model_registry: dict[str, Callable[..., Promptable]] = {
    "default": build_sam_vit_h,
    "vit_h": build_sam_vit_h,
    "vit_l": build_sam_vit_l,
    "vit_b": build_sam_vit_b,
    "vit_t": build_sam_vit_t,
    "nano": build_nano,
}


class ResizeLongestSide:
    """Resizes pictures, points and boxes so that the longest side becomes `target_length`."""

    def __init__(self, target_length: int) -> None:
        self.target_length = target_length

    def frame(self, original_size: tuple[int, ...]) -> Frame:
        return Frame(int(original_size[0]), int(original_size[1]), self.target_length, "pad")

    def apply_image(self, image: np.ndarray) -> np.ndarray:
        """HxWxC uint8 -> the same, resized with Pillow's bilinear filter."""
        height, width = self.frame(image.shape).content
        return np.array(Image.fromarray(image).resize((width, height), Image.Resampling.BILINEAR))

    def apply_coords(self, coords: np.ndarray, original_size: tuple[int, ...]) -> np.ndarray:
        """... x 2, in pixels of the original picture (H, W)."""
        frame = self.frame(original_size)
        height, width = frame.content
        return deepcopy(coords).astype(float) * (width / frame.width, height / frame.height)

    def apply_boxes(self, boxes: np.ndarray, original_size: tuple[int, ...]) -> np.ndarray:
        """B x 4."""
        return self.apply_coords(boxes.reshape(-1, 2, 2), original_size).reshape(-1, 4)

    def apply_image_torch(self, image: Tensor) -> Tensor:
        """BxCxHxW float -> the same, resized; not exactly what `apply_image` gives."""
        size = self.frame(tuple(image.shape[2:])).content
        return F.interpolate(image, size, mode="bilinear", align_corners=False, antialias=True)

    def apply_coords_torch(self, coords: Tensor, original_size: tuple[int, ...]) -> Tensor:
        frame = self.frame(original_size)
        height, width = frame.content
        return deepcopy(coords).to(torch.float) * coords.new_tensor(
            [width / frame.width, height / frame.height], dtype=torch.float
        )

    def apply_boxes_torch(self, boxes: Tensor, original_size: tuple[int, ...]) -> Tensor:
        return self.apply_coords_torch(boxes.reshape(-1, 2, 2), original_size).reshape(-1, 4)

    @staticmethod
    def get_preprocess_shape(oldh: int, oldw: int, long_side_length: int) -> tuple[int, int]:
        """The (height, width) after resizing."""
        return Frame(oldh, oldw, long_side_length, "pad").content


class _SquashToSquare(ResizeLongestSide):
    """The same for networks that stretch the picture over the whole square, such as `nano`."""

    def frame(self, original_size: tuple[int, ...]) -> Frame:
        return Frame(int(original_size[0]), int(original_size[1]), self.target_length, "squash")


class SamPredictor:
    """`set_image` once, `predict` many times; results are the session's, in the reference's shapes and types."""

    def __init__(self, sam_model: Promptable) -> None:
        self.model = sam_model
        transform = ResizeLongestSide if isinstance(sam_model, Sam1) else _SquashToSquare
        self.transform = transform(sam_model.input_size)
        self.reset_image()

    def set_image(self, image: np.ndarray, image_format: str = "RGB") -> None:
        """HxWxC uint8, RGB or BGR."""
        if image_format not in ("RGB", "BGR"):
            raise AssertionError(f"image_format must be in ['RGB', 'BGR'], is {image_format}.")
        if image_format == "BGR":
            image = image[..., ::-1]
        self.reset_image()
        self._keep(self._encoder().encode([open_image(np.ascontiguousarray(image))])[0])

    @torch.no_grad()
    def set_torch_image(self, transformed_image: Tensor, original_image_size: tuple[int, ...]) -> None:
        """1x3xHxW in 0..255, resized already (`transform`); `original_image_size` is (H, W)."""
        frame = self.transform.frame(original_image_size)
        shape = transformed_image.shape
        if len(shape) != 4 or shape[1] != 3 or max(*shape[2:]) != self.model.input_size:
            raise AssertionError(f"set_torch_image input must be BCHW with long side {self.model.input_size}.")
        self.reset_image()
        device = self.device
        mean, std = (255 * of_shares for of_shares in normalisation(device))
        pixels = (transformed_image.to(device).float() - mean) / std
        side = self.model.input_size
        square = F.pad(pixels, (0, side - shape[3], 0, side - shape[2]))
        black = np.zeros((frame.height, frame.width, 3), np.uint8)  # the picture itself is not known here
        self._keep(self._encoder().encode_squares(square, [black], [frame])[0])

    def predict(
        self,
        point_coords: np.ndarray | None = None,
        point_labels: np.ndarray | None = None,
        box: np.ndarray | None = None,
        mask_input: np.ndarray | None = None,
        multimask_output: bool = True,
        return_logits: bool = False,
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Points Nx2 with labels N, one box of length 4, or a mask 1x256x256 of an earlier answer.

        Returns masks CxHxW (bool; logits if asked for), scores C, low-resolution logits CxHxW.
        """
        encoded = self._image("An image must be set with .set_image(...) before mask prediction.")
        coords = labels = boxes = mask = None
        if point_coords is not None:
            if point_labels is None:
                raise AssertionError("point_labels must be supplied if point_coords is supplied.")
            coords = as_tensor(self.transform.apply_coords(point_coords, encoded.size), torch.float32)[None]
            labels = as_tensor(point_labels, torch.int32)[None]
        if box is not None:
            boxes = as_tensor(self.transform.apply_boxes(box, encoded.size), torch.float32)
        if mask_input is not None:
            mask = as_tensor(mask_input, torch.float32)[None]
        masks, scores, low_res = self.predict_torch(coords, labels, boxes, mask, multimask_output, return_logits)
        return masks[0].cpu().numpy(), scores[0].cpu().numpy(), low_res[0].cpu().numpy()

    @torch.no_grad()
    def predict_torch(
        self,
        point_coords: Tensor | None,
        point_labels: Tensor | None,
        boxes: Tensor | None = None,
        mask_input: Tensor | None = None,
        multimask_output: bool = True,
        return_logits: bool = False,
    ) -> tuple[Tensor, Tensor, Tensor]:
        """B prompts, transformed already: points BxNx2, labels BxN, boxes Bx4, masks Bx1x256x256.

        Returns masks BxCxHxW, scores BxC, low-resolution logits BxCx256x256.
        """
        encoded = self._image("An image must be set with .set_image(...) before mask prediction.")
        parts = (None if x is None else x.to(encoded.device) for x in (point_coords, point_labels, boxes, mask_input))
        answer = encoded.decode(Prompts(*parts), multimask_output)
        masks = encoded.masks_of(answer.logits)
        return masks if return_logits else masks > 0, answer.scores, self.model.limited(answer.logits)

    def get_image_embedding(self) -> Tensor:
        """1xCxHxW."""
        return self._image("An image must be set with .set_image(...) to generate an embedding.").features.embedding

    @property
    def device(self) -> torch.device:
        return self.model.device

    def reset_image(self) -> None:
        """Forgets the image."""
        self.is_image_set = False
        self.features: Tensor | None = None
        self.original_size: tuple[int, int] | None = None
        self.input_size: tuple[int, int] | None = None
        self._encoded: EncodedImage | None = None

    def _encoder(self) -> Encoder:
        return Encoder(self.model, "model")

    def _keep(self, encoded: EncodedImage) -> None:
        self._encoded = encoded
        self.features = encoded.features.embedding
        self.original_size = encoded.size
        self.input_size = encoded.frame.content
        self.is_image_set = True

    def _image(self, message: str) -> EncodedImage:
        if self._encoded is None or not self.is_image_set:
            raise RuntimeError(message)
        return self._encoded


class SamAutomaticMaskGenerator(MaskGenerator):
    """Everything in an image, as SAM 1's generator gives it.

    `points_per_batch` is for a GPU: on a CPU points are decoded one by one, which is the fastest there. Small regions are
    removed without OpenCV, by the same rule.
    """

    def __init__(
        self,
        model: Promptable,
        points_per_side: int | None = 32,
        points_per_batch: int = 64,
        pred_iou_thresh: float = 0.88,
        stability_score_thresh: float = 0.95,
        stability_score_offset: float = 1.0,
        box_nms_thresh: float = 0.7,
        crop_n_layers: int = 0,
        crop_nms_thresh: float = 0.7,
        crop_overlap_ratio: float = 512 / 1500,
        crop_n_points_downscale_factor: int = 1,
        point_grids: list[np.ndarray] | None = None,
        min_mask_region_area: int = 0,
        output_mode: str = "binary_mask",
    ) -> None:
        config = AutomaticConfig(
            points_per_side=points_per_side,
            points_per_batch=points_per_batch,
            pred_iou_thresh=pred_iou_thresh,
            stability_score_thresh=stability_score_thresh,
            stability_score_offset=stability_score_offset,
            box_nms_thresh=box_nms_thresh,
            crop_n_layers=crop_n_layers,
            crop_nms_thresh=crop_nms_thresh,
            crop_overlap_ratio=crop_overlap_ratio,
            crop_n_points_downscale_factor=crop_n_points_downscale_factor,
            point_grids=grids(point_grids),
            min_mask_region_area=min_mask_region_area,
        )
        super().__init__(model, config, output_mode)

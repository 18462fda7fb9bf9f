"""What can be chosen about automatic masks, with the names and defaults of the references."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from ..errors import InputError


@dataclass(frozen=True)
class AutomaticConfig:
    """How a picture is searched. Raises InputError where a value makes no sense.

    The names are those of https://github.com/facebookresearch/sam2/blob/main/sam2/automatic_mask_generator.py; the defaults
    are SAM 2's (SAM 1's differ in `pred_iou_thresh`, 0.88).
    """

    points_per_side: int | None = 32
    """A grid of so many points squared; None: `point_grids` says where."""
    points_per_batch: int = 64
    """Points decoded together on a GPU; on a CPU they are decoded one by one, which is faster; the masks are the same."""
    pred_iou_thresh: float = 0.8
    """Candidates that the model expects to be worse are dropped; 0 keeps all."""
    stability_score_thresh: float = 0.95
    """Candidates whose area depends more on the threshold are dropped; 0 keeps all."""
    stability_score_offset: float = 1.0
    """How far, in logits, the threshold is moved either way for that."""
    mask_threshold: float = 0.0
    """The logit from which on a pixel belongs to a mask."""
    box_nms_thresh: float = 0.7
    """Of two candidates whose boxes overlap by more (IoU) the better stays."""
    crop_n_layers: int = 0
    """Layer i looks again at 4^i overlapping crops, each encoded on its own."""
    crop_nms_thresh: float = 0.7
    """The same across crops, where smaller crops win."""
    crop_overlap_ratio: float = 512 / 1500
    """How far crops of the first layer overlap, as a share of the picture's shorter side."""
    crop_n_points_downscale_factor: int = 1
    """Layer i has its points per side divided by this to the power of i."""
    point_grids: tuple[np.ndarray, ...] | None = None
    """A grid (P, 2) of x, y in [0, 1] for each layer, instead of `points_per_side`."""
    min_mask_region_area: int = 0
    """Holes and islands smaller than this (in pixels of the picture) are filled and dropped; 0: nothing is."""
    use_m2m: bool = False
    """Each candidate is fed back once more as a mask prompt."""
    multimask_output: bool = True
    """Three candidates a point, or one."""
    skip_covered: bool = False
    """Not in the references: every fourth point each way is asked first, then every second, then all; points within something
    that was found already (and is no larger than a quarter of the crop) are left out. Faster, and finds a little less."""

    def __post_init__(self) -> None:
        if (self.points_per_side is None) == (self.point_grids is None):
            raise InputError("give exactly one of points_per_side and point_grids")
        if self.points_per_side is not None and self.points_per_side < 1:
            raise InputError(f"points_per_side must be at least 1, got {self.points_per_side}")
        for name in ("points_per_batch", "crop_n_points_downscale_factor"):
            if getattr(self, name) < 1:
                raise InputError(f"{name} must be at least 1, got {getattr(self, name)}")
        if not 0 <= self.crop_n_layers <= 4:
            raise InputError(f"crop_n_layers must be 0 to 4, got {self.crop_n_layers}")
        if self.skip_covered and self.points_per_side is None:
            raise InputError("skip_covered needs points_per_side")
        if self.stability_score_offset < 0 or self.min_mask_region_area < 0:
            raise InputError("stability_score_offset and min_mask_region_area must not be negative")
        if self.point_grids is not None and len(self.point_grids) < 1 + self.crop_n_layers:
            raise InputError(f"point_grids needs a grid for each of {1 + self.crop_n_layers} layers")

    def grid(self, layer: int) -> np.ndarray:
        """The points (P, 2) of a layer: x, y in [0, 1], row by row."""
        if self.point_grids is not None:
            return np.asarray(self.point_grids[layer], np.float64).reshape(-1, 2)
        assert self.points_per_side is not None  # __post_init__ made sure
        return even_grid(max(1, self.points_per_side // self.crop_n_points_downscale_factor**layer))

    def rounds(self, layer: int) -> list[np.ndarray]:
        """The rows of a layer's grid, as they are asked together: all at once, or coarse to fine."""
        count = len(self.grid(layer))
        if not self.skip_covered:
            return [np.arange(count)]
        side = round(count**0.5)
        fineness = np.zeros((side, side), np.int64)
        for step in (2, 4):
            fineness[step // 2 :: step, step // 2 :: step] = step
        return [np.flatnonzero(fineness.ravel() == step) for step in (4, 2, 0)]


def even_grid(side: int) -> np.ndarray:
    """side * side points (P, 2) in the middle of equal tiles of the unit square, row by row."""
    ticks = (np.arange(side) + 0.5) / side
    x, y = np.meshgrid(ticks, ticks)
    return np.stack([x, y], axis=-1).reshape(-1, 2)


@dataclass(frozen=True)
class Crop:
    """A part of the picture that is encoded on its own: pixels x0 <= x < x1, y0 <= y < y1."""

    x0: int
    y0: int
    x1: int
    y1: int
    layer: int


def crops_of(height: int, width: int, config: AutomaticConfig) -> list[Crop]:
    """The whole picture, then each layer's crops.

    Source: https://github.com/facebookresearch/sam2/blob/main/sam2/utils/amg.py (generate_crop_boxes)
    """
    crops = [Crop(0, 0, width, height, 0)]
    for layer in range(1, config.crop_n_layers + 1):
        per_side = 2**layer
        overlap = int(config.crop_overlap_ratio * min(height, width) * 2 / per_side)
        crop_width, crop_height = (-((-(overlap * (per_side - 1) + n)) // per_side) for n in (width, height))  # rounded up
        for i in range(per_side):
            for j in range(per_side):
                x0, y0 = (crop_width - overlap) * i, (crop_height - overlap) * j
                crops.append(Crop(x0, y0, min(x0 + crop_width, width), min(y0 + crop_height, height), layer))
    return crops


def default_config(model: str) -> AutomaticConfig:
    """The search that suits a model: SAM 2's for the published ones; `nano` judges itself less surely, so it is asked less."""
    if model == "nano":
        return AutomaticConfig(16, pred_iou_thresh=0.5, stability_score_thresh=0.7, stability_score_offset=0.5)
    return AutomaticConfig()


def adapted_config(model: str, changes: Mapping[str, Any]) -> AutomaticConfig:
    """The same with what was chosen instead, by name; None leaves what suits the model. Raises TypeError for unknown names."""
    return replace(default_config(model), **{name: value for name, value in changes.items() if value is not None})

"""What both families' automatic mask generators share: arguments to a search, and what it finds to the references' records.

Source: https://github.com/facebookresearch/sam2/blob/main/sam2/automatic_mask_generator.py (generate)
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from .. import rle
from ..automatic.config import AutomaticConfig
from ..automatic.generate import Found, search
from ..images import open_image
from ..nets.promptable import Promptable
from ..segment.session import Encoder

OUTPUT_MODES = ("binary_mask", "uncompressed_rle", "coco_rle")


class MaskGenerator:
    """A network, a way to search, and a form of the result."""

    def __init__(self, model: Promptable, config: AutomaticConfig, output_mode: str) -> None:
        if output_mode not in OUTPUT_MODES:
            raise AssertionError(f"Unknown output_mode {output_mode}.")
        self.model = model
        self.config = config
        self.output_mode = output_mode

    def generate(self, image: np.ndarray) -> list[dict[str, Any]]:
        """HxWxC uint8 RGB -> one record a mask: segmentation, area, bbox (x, y, w, h; the far pixel is not counted),
        predicted_iou, point_coords, stability_score, crop_box.
        """
        photo = Encoder(self.model, "model").encode([open_image(np.ascontiguousarray(image))])[0]
        found = search(photo.view, lambda crop: photo.crop(crop).view, self.config)
        return [self._record(found, row, photo.size) for row in range(len(found))]

    def _record(self, found: Found, row: int, size: tuple[int, int]) -> dict[str, Any]:
        counts = found.counts[row]
        return {
            "segmentation": self._segmentation(counts, size),
            "area": int(counts[1::2].sum()),
            "bbox": _xywh(found.boxes[row]),
            "predicted_iou": float(found.scores[row]),
            "point_coords": [found.points[row].tolist()],
            "stability_score": float(found.stability[row]),
            "crop_box": _xywh(found.crops[row]),
        }

    def _segmentation(self, counts: np.ndarray, size: tuple[int, int]) -> Any:
        if self.output_mode == "binary_mask":
            return rle.from_runs(counts, *size)
        if self.output_mode == "uncompressed_rle":
            return {"size": list(size), "counts": counts.tolist()}
        return {"size": list(size), "counts": rle.compress(counts)}


def _xywh(box: np.ndarray) -> list[Any]:
    x0, y0, x1, y1 = box.tolist()
    return [x0, y0, x1 - x0, y1 - y0]


def grids(point_grids: Sequence[np.ndarray] | None) -> tuple[np.ndarray, ...] | None:
    """The references' list of grids as the search takes it."""
    return None if point_grids is None else tuple(np.asarray(grid) for grid in point_grids)

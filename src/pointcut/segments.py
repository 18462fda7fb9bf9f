"""`Segments`: masks with their scores, the only currency after segmentation."""

from __future__ import annotations

import io
import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, fields, replace
from functools import cached_property
from pathlib import Path
from typing import Any, Literal, Self

import numpy as np
from PIL import Image

from . import draw, masks, rle
from .errors import InputError, OutputError
from .prompts import Prompt
from .rle import Rle

Kind = Literal["cutout", "mask", "overlay"]


@dataclass(frozen=True, eq=False)
class Preview:
    """What lies under the pointer: one mask as small as the network draws it, to be shown while the mouse moves."""

    mask: np.ndarray
    """(h, w) bool: the whole picture at low resolution; stretch it over the picture."""
    score: float
    """The IoU with the true mask that the model expects, 0..1."""


@dataclass(frozen=True, eq=False)
class Segments:
    """N masks of one picture, in its own pixels. Immutable; iterating or indexing gives `Segments` again.

    A prompt for one ambiguous object gives three candidates; for several objects the candidates of each stand together, and
    `objects` tells whose they are.
    """

    image: np.ndarray
    """(H, W, 3) uint8 RGB: the picture they belong to."""
    stored: np.ndarray | tuple[Rle, ...]
    """The masks: bool (N, H, W), or COCO's run lengths of each, as many masks of a large picture are kept. Read `masks`."""
    scores: np.ndarray
    """(N,) float32: the IoU with the true mask that the model expects, 0..1."""
    stability: np.ndarray
    """(N,) float32, 0..1: how little the mask changes when its threshold moves by one logit either way."""
    logits: np.ndarray
    """(N, h, w) float32, low resolution; `previous=` feeds them back."""
    objects: np.ndarray
    """(N,) int64: which prompted object each mask answers, from 0."""
    prompts: tuple[Prompt, ...] = ()
    """The prompt of each object."""
    object_scores: np.ndarray | None = None
    """(N,) float32 logit that there is an object at all; None where the model does not tell (SAM 1)."""

    @classmethod
    def read_back(
        cls, image: np.ndarray, stored: Sequence[Rle], figures: Sequence[Mapping[str, Any]], objects: Sequence[int]
    ) -> Self:
        """What was written down of masks: their run lengths, their `figures`, and whose they are. Logits are not written."""
        return cls(
            image,
            stored=tuple(Rle(size=mask["size"], counts=mask["counts"]) for mask in stored),
            scores=np.array([one["score"] for one in figures], np.float32),
            stability=np.array([one["stability"] for one in figures], np.float32),
            logits=np.zeros((len(figures), 0, 0), np.float32),
            objects=np.array(objects, np.int64),
        )

    @classmethod
    def of_masks(cls, image: np.ndarray, masks: np.ndarray) -> Self:
        """Masks from elsewhere: image (H, W, 3) uint8, masks (N, H, W) bool, each an object of its own, sure of itself."""
        one = np.ones(len(masks), np.float32)
        return cls(image, masks, one, one, np.zeros((len(masks), 0, 0), np.float32), np.arange(len(masks)))

    def __post_init__(self) -> None:
        for field in fields(self):
            value = getattr(self, field.name)
            if isinstance(value, np.ndarray):
                view = value.view()  # the caller's own array stays as writeable as it was
                view.setflags(write=False)
                object.__setattr__(self, field.name, view)

    def __len__(self) -> int:
        return len(self.scores)

    @cached_property
    def masks(self) -> np.ndarray:
        """(N, H, W) bool. H * W bytes a mask: of hundreds of masks of a large picture ask for one at a time (`mask`)."""
        if isinstance(self.stored, np.ndarray):
            return self.stored
        masks = np.zeros((len(self), *self.image.shape[:2]), bool)
        for row, mask in enumerate(masks):
            mask[:] = self.mask(row)
        masks.setflags(write=False)
        return masks

    def mask(self, row: int) -> np.ndarray:
        """(H, W) bool: one mask."""
        return self.stored[row] if isinstance(self.stored, np.ndarray) else rle.decode(self.stored[row])

    def part(self, row: int) -> tuple[np.ndarray, int, int]:
        """One mask within its box (h, w) bool, and where the box begins (x, y): as little of a large picture as there is."""
        x0, y0, x1, y1 = (int(v) for v in self.boxes_xyxy[row])
        if isinstance(self.stored, np.ndarray):
            return self.stored[row, y0:y1, x0:x1], x0, y0
        return rle.decode_part(self.stored[row], x0, y0, x1, y1), x0, y0

    def __iter__(self) -> Iterator[Segments]:
        return (self[i] for i in range(len(self)))

    def __getitem__(self, index: int | slice | np.ndarray | list[int]) -> Segments:
        rows = np.arange(len(self))[index]
        rows = np.atleast_1d(rows)
        return replace(
            self,
            stored=self.stored[rows] if isinstance(self.stored, np.ndarray) else tuple(self.stored[i] for i in rows),
            scores=self.scores[rows],
            stability=self.stability[rows],
            logits=self.logits[rows],
            objects=self.objects[rows],
            object_scores=None if self.object_scores is None else self.object_scores[rows],
        )

    @cached_property
    def areas(self) -> np.ndarray:
        """(N,) int64: pixels of each mask."""
        if isinstance(self.stored, np.ndarray):
            return masks.areas(self.stored)
        return np.array([rle.area(mask) for mask in self.stored], np.int64)

    @cached_property
    def boxes_xyxy(self) -> np.ndarray:
        """(N, 4) float32: the tight box of each mask, far sides exclusive; zeros for an empty mask."""
        if isinstance(self.stored, np.ndarray):
            return masks.boxes_xyxy(self.stored)
        return np.array([rle.box_xyxy(mask) for mask in self.stored], np.float32).reshape(-1, 4)

    def placed(self, image: np.ndarray, x0: int, y0: int, factor: int = 1) -> Segments:
        """The same masks of a part as masks of the whole `image` (H, W, 3), in which the part begins at x0, y0.

        factor: how many of the whole's pixels, each way, one of the part's stands for.
        """
        size = image.shape[0], image.shape[1]
        return replace(
            self,
            image=image,
            stored=tuple(rle.placed(mask, x0, y0, size, factor) for mask in self.rle()),
            prompts=tuple(prompt.moved(x0, y0, factor) for prompt in self.prompts),
        )

    @property
    def best_rows(self) -> np.ndarray:
        """(objects,) int64: the row of the highest score of each object, in the order of the prompts."""
        order = np.lexsort((-self.scores, self.objects))
        _, first = np.unique(self.objects[order], return_index=True)
        return order[first]

    @property
    def best(self) -> Segments:
        """The mask with the highest score of each object."""
        return self[self.best_rows]

    @property
    def candidates(self) -> tuple[Segments, ...]:
        """For each object its masks, best first."""
        order = np.lexsort((-self.scores, self.objects))
        ids = self.objects[order]
        return tuple(self[order[ids == i]] for i in np.unique(ids))

    @property
    def union(self) -> np.ndarray:
        """(H, W) bool: all masks together."""
        union = np.zeros(self.image.shape[:2], bool)
        for row in range(len(self)):
            union |= self.mask(row)
        return union

    def rle(self) -> list[Rle]:
        """Each mask in COCO's compressed run-length encoding."""
        if isinstance(self.stored, np.ndarray):
            return [rle.encode(mask) for mask in self.stored]
        return list(self.stored)

    def figures(self, row: int) -> dict[str, Any]:
        """What is said of one mask to programs."""
        return {
            "score": round(float(self.scores[row]), 4),
            "stability": round(float(self.stability[row]), 4),
            "area": int(self.areas[row]),
            "box_xyxy": self.boxes_xyxy[row].tolist(),
        }

    def close_up(self, row: int, *, context: float, background: draw.Background, side: int) -> Image.Image:
        """One mask and a little around it, see `draw.close_up`."""
        return draw.close_up(self.image, *self.part(row), context=context, background=background, side=side)

    def picture(self, kind: Kind) -> Image.Image:
        """A PIL image: `cutout` (RGBA), `mask` (grey) of all masks together, or `overlay` with prompts and scores."""
        if kind == "cutout":
            return draw.cutout(self.image, self.union)
        if kind == "mask":
            return draw.mask_picture(self.union)
        if kind == "overlay":
            shown = [self.prompts[i] for i in np.unique(self.objects) if i < len(self.prompts)]
            return draw.overlay(self.image, self.masks, shown, [f"{score:.2f}" for score in self.scores])
        raise InputError(f"kind must be cutout, mask or overlay, got {kind!r}")

    def save(self, path: str | os.PathLike[str], kind: Kind | None = None) -> Path:
        """Writes a picture. Its kind is asked for, or read from the name: `x.mask.png`, `x.overlay.jpg`, else a cut-out.

        Several masks are joined: save `.best`, or one of `.candidates`, for one. Raises OutputError.
        """
        path = Path(path)
        if kind is None:
            ending = Path(path.stem).suffix.removeprefix(".")
            kind = "mask" if ending == "mask" else "overlay" if ending == "overlay" else "cutout"
        if not path.parent.is_dir():
            raise OutputError(f"{path}: there is no folder {path.parent}; make it first")
        draw.save(self.picture(kind), path)
        return path

    def _repr_png_(self) -> bytes:
        """What a notebook shows: the overlay of the best mask of each object."""
        buffer = io.BytesIO()
        self.best.picture("overlay").save(buffer, format="PNG")
        return buffer.getvalue()

    def __repr__(self) -> str:
        scores = ", ".join(f"{s:.2f}" for s in self.scores[:8])
        height, width = self.image.shape[:2]
        objects = len(np.unique(self.objects))
        return f"<Segments: {len(self)} masks of {objects} objects in {width} x {height}, scores {scores}>"

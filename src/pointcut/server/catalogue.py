"""The index that a server searches: opened once, asked from one lane."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from ..index import Entry, Hit, Where, open_store
from ..likeness import CloseUps, OwnFeatures, likeness_of
from ..segment.segmenter import Segmenter
from ..segment.session import EncodedImage
from ..segments import Segments


class Catalogue:
    """Segments that were added by `pointcut index`, and the loaded model whose pictures can be compared with them."""

    def __init__(self, place: str, models: Sequence[Segmenter]) -> None:
        """Raises InputError (no index there; one of none of these models), MissingExtra, ModelError."""
        encoder = open_store(place).about.encoder
        opened = ((model, likeness_of(encoder, model)) for model in models)
        fitting = ((model, likeness) for model, likeness in opened if likeness.name == encoder)
        self.model, self.likeness = next(fitting, (models[0], OwnFeatures(models[0])))
        self.store = open_store(place, self.likeness.name)

    @property
    def knows_words(self) -> bool:
        """Whether it can be asked by meaning."""
        return isinstance(self.likeness, CloseUps)

    def about(self) -> dict[str, Any]:
        """For programs. Where it lies is nobody's business."""
        told = self.store.stats()
        return {name: told[name] for name in ("kind", "encoder", "dimension", "segments", "pictures")} | {
            "model": self.model.name,
            "text": self.knows_words,
        }

    def vector(self, photo: EncodedImage, masks: np.ndarray | None) -> np.ndarray:
        """(D,): of a mask (1, H, W), or of the whole picture."""
        masks = np.ones((1, *photo.size), bool) if masks is None else masks
        return self.likeness.vectors(photo, Segments.of_masks(photo.image, masks))[0]

    def search(self, vector: np.ndarray | None, where: Where, count: int, skip: int) -> list[Hit]:
        """The segments most like a vector, best first; without one those that meet the conditions."""
        if vector is None:
            return [Hit(entry, 1.0) for entry in self.store.entries(where, count, skip)]
        return self.store.search(vector, count, where, skip)

    def entry(self, entry_id: str) -> Entry | None:
        return next(iter(self.store.entries(Where(ids=(entry_id,)))), None)

"""The index that a server searches: opened once, asked from one lane."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from ..index import open_store
from ..likeness import CloseUps, OwnFeatures, likeness_of
from ..segment.segmenter import Segmenter


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

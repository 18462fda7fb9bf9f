"""What segments look like, as vectors: to the segmenting model itself, or to one that knows words as well."""

from __future__ import annotations

from pathlib import Path
from typing import Protocol

import numpy as np

from .embed import Embedder, source_of
from .errors import InputError
from .index import find_store, open_store
from .segment.features import pooled_features
from .segment.segmenter import Segmenter
from .segment.session import EncodedImage, decoder_digest
from .segments import Segments

LEVELS = 4
"""Of red, green and blue each."""
COLOUR_WEIGHT = 0.7
"""Of the colours beside the model's features."""

CONTEXT, SIDE = 0.25, 384
"""Of the close-ups that image-text models are shown: as shares of the box, and pixels at most."""


class Likeness(Protocol):
    """Segments to vectors of length one; the cosine of two says how alike they are."""

    @property
    def name(self) -> str:
        """Whose vectors they are: those of different names are not compared."""
        ...

    def vectors(self, photo: EncodedImage, cut: Segments) -> np.ndarray:
        """(N, D) float32: of each mask."""
        ...

    def words(self, text: str) -> np.ndarray:
        """(D,) float32: of what is meant. Raises InputError where words are not known."""
        ...


class OwnFeatures:
    """The segmenting model's feature maps, pooled over the mask, with the mask's colours: at hand already, and without words.

    Small networks know shapes and textures better than colours; both together find an object again far more often than either
    (benchmarks/retrieval.py).
    """

    def __init__(self, model: Segmenter) -> None:
        self.name = f"{model.name}/{decoder_digest(model.net)}/{model.net.input_size}/colours"

    def vectors(self, photo: EncodedImage, cut: Segments) -> np.ndarray:
        features = pooled_features(photo, cut, centred=False)
        both = np.concatenate([features, COLOUR_WEIGHT * colours(cut)], axis=1)
        return both / np.float32((1 + COLOUR_WEIGHT**2) ** 0.5)

    def words(self, text: str) -> np.ndarray:  # noqa: ARG002
        raise wordless(self.name)


def colours(cut: Segments) -> np.ndarray:
    """(N, 64) float32 of length one: the roots of the shares of 4 x 4 x 4 colours under each mask (so that the product of two
    is the Bhattacharyya coefficient). An empty mask has none."""
    found = np.zeros((len(cut), LEVELS**3), np.float32)
    for row in range(len(cut)):
        mask, x0, y0 = cut.part(row)
        pixels = cut.image[y0 : y0 + mask.shape[0], x0 : x0 + mask.shape[1]][mask]
        cells = (pixels // (256 // LEVELS)).astype(np.int64) @ (LEVELS**2, LEVELS, 1)
        found[row] = np.sqrt(np.bincount(cells, minlength=LEVELS**3) / max(1, len(pixels)))
    return found


class CloseUps:
    """Close-ups of segments as an image-text model sees them, what is around them dimmed."""

    def __init__(self, embedder: Embedder) -> None:
        self.embedder, self.name = embedder, embedder.name

    def width(self, photo: EncodedImage) -> int:  # noqa: ARG002  # of any picture
        """Numbers of a vector: asked of the model itself, where there is none to count."""
        return self.words("a").shape[0]

    def vectors(self, photo: EncodedImage, cut: Segments) -> np.ndarray:
        if not len(cut):
            return np.zeros((0, self.width(photo)), np.float32)
        close_ups = (cut.close_up(row, context=CONTEXT, background="dim", side=SIDE) for row in range(len(cut)))
        return np.concatenate([self.embedder.pictures([one]) for one in close_ups])

    def words(self, text: str) -> np.ndarray:
        return self.embedder.words([text])[0]


def likeness_at(place: str | Path, model: Segmenter, words_model: str | None = None) -> Likeness:
    """Of the index at a place (`index.open_store`), whether it is there yet or not.

    Raises InputError for an index of another model, MissingExtra, ModelError.
    """
    there = find_store(place)
    likeness = likeness_of(there.about.encoder if there else None, model, words_model)
    if there is not None:
        open_store(place, likeness.name)  # of another model: said now, not after an hour's work
    return likeness


def likeness_of(encoder: str | None, model: Segmenter, words_model: str | None = None) -> Likeness:
    """Of an index: whose vectors it holds already (`About.encoder`; None for a new one), or is to hold.

    words_model: an image-text model, see `Embedder.open`. Raises MissingExtra, ModelError.
    """
    source = words_model or (source_of(encoder) if encoder else None)
    return CloseUps(Embedder.open(source, str(model.device))) if source else OwnFeatures(model)


def vector_of(likeness: Likeness, photo: EncodedImage, masks: np.ndarray | None = None) -> np.ndarray:
    """(D,): of a mask (1, H, W), or of the whole picture."""
    masks = np.ones((1, *photo.size), bool) if masks is None else masks
    return likeness.vectors(photo, Segments.of_masks(photo.image, masks))[0]


def wordless(encoder: str) -> InputError:
    """For an index that cannot be asked by meaning."""
    return InputError(
        f"this index is of {encoder}, which knows no words: search labels and descriptions (--words), or make an index with "
        "--words-model google/siglip-base-patch16-224"
    )

"""What segments look like, as vectors: to the segmenting model itself, or to one that knows words as well."""

from __future__ import annotations

from typing import Protocol

import numpy as np
from PIL.Image import Image

from . import draw
from .embed import Embedder, source_of
from .errors import InputError
from .segment.features import feature_width, pooled_features
from .segment.segmenter import Segmenter
from .segment.session import EncodedImage, decoder_digest
from .segments import Segments

CONTEXT, SIDE = 0.25, 384
"""Of the close-ups that image-text models are shown: as shares of the box, and pixels at most."""


class Likeness(Protocol):
    """Segments to vectors of length one; the cosine of two says how alike they are."""

    @property
    def name(self) -> str:
        """Whose vectors they are: those of different names are not compared."""
        ...

    def width(self, photo: EncodedImage) -> int:
        """Numbers of a vector."""
        ...

    def vectors(self, photo: EncodedImage, cut: Segments) -> np.ndarray:
        """(N, D) float32: of each mask."""
        ...

    def words(self, text: str) -> np.ndarray:
        """(D,) float32: of what is meant. Raises InputError where words are not known."""
        ...


class OwnFeatures:
    """The segmenting model's feature maps, pooled over the mask: at hand already, and without words."""

    def __init__(self, model: Segmenter) -> None:
        self.name = f"{model.name}/{decoder_digest(model.net)}/{model.net.input_size}"

    def width(self, photo: EncodedImage) -> int:
        return feature_width(photo)

    def vectors(self, photo: EncodedImage, cut: Segments) -> np.ndarray:
        return pooled_features(photo, cut, centred=False)

    def words(self, text: str) -> np.ndarray:  # noqa: ARG002
        raise wordless(self.name)


class CloseUps:
    """Close-ups of segments as an image-text model sees them, what is around them dimmed."""

    def __init__(self, embedder: Embedder) -> None:
        self.embedder, self.name = embedder, embedder.name

    def width(self, photo: EncodedImage) -> int:  # noqa: ARG002  # of any picture
        return self.words("a").shape[0]

    def vectors(self, photo: EncodedImage, cut: Segments) -> np.ndarray:
        if not len(cut):
            return np.zeros((0, self.width(photo)), np.float32)
        return np.concatenate([self.embedder.pictures([_close_up(cut, row)]) for row in range(len(cut))])

    def words(self, text: str) -> np.ndarray:
        return self.embedder.words([text])[0]


def likeness_of(encoder: str | None, model: Segmenter, words_model: str | None = None) -> Likeness:
    """Of an index: whose vectors it holds already (`About.encoder`; None for a new one), or is to hold.

    words_model: an image-text model, see `Embedder.open`. Raises MissingExtra, ModelError.
    """
    source = words_model or (source_of(encoder) if encoder else None)
    return CloseUps(Embedder.open(source, str(model.device))) if source else OwnFeatures(model)


def wordless(encoder: str) -> InputError:
    """For an index that cannot be asked by meaning."""
    return InputError(
        f"this index is of {encoder}, which knows no words: search labels and descriptions (--words), or make an index with "
        "--words-model google/siglip-base-patch16-224"
    )


def _close_up(cut: Segments, row: int) -> Image:
    mask, x0, y0 = cut.part(row)
    return draw.close_up(cut.image, mask, x0, y0, context=CONTEXT, background="dim", side=SIDE)

"""Pictures and words as vectors of one space: CLIP, SigLIP and their kin, by `transformers` (the extra `words`).

Sources: Radford et al., "Learning Transferable Visual Models", https://arxiv.org/abs/2103.00020; Zhai et al., "Sigmoid Loss for
Language Image Pre-Training", https://arxiv.org/abs/2303.15343
"""

from __future__ import annotations

import hashlib
import threading
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from PIL import Image

from .errors import WeightsMismatch
from .pretrained import open_pretrained

PREFIX = "words:"
"""What the names of these encoders begin with."""


@dataclass(frozen=True, eq=False)
class Embedder:
    """A loaded model. Calls from several threads wait for each other."""

    model: Any
    processor: Any
    device: str
    source: str
    digest: str
    """Of the weights."""
    _lock: threading.Lock = field(default_factory=threading.Lock, repr=False)

    @property
    def name(self) -> str:
        """By which an index knows whose vectors it holds, and how to open this again."""
        return f"{PREFIX}{self.source}/{self.digest}"

    @classmethod
    def open(cls, source: str, device: str = "cpu") -> Embedder:
        """A Hub id (`google/siglip-base-patch16-224`) or a folder in transformers' layout, safetensors only.

        Raises MissingExtra, WeightsNotFound, and WeightsMismatch for a model that knows no words.
        """
        option = "--words-model google/siglip-base-patch16-224"
        model, processor = open_pretrained(source, "AutoModel", what="an image-text model", extra="words", option=option)
        if not hasattr(model, "get_text_features") or not hasattr(model, "get_image_features"):
            raise WeightsMismatch(f"{source}: is a {model.config.model_type}, which does not put pictures and words together")
        return cls(model.to(device).eval(), processor, device, source, _digest(model))

    def pictures(self, pictures: Sequence[Image.Image]) -> np.ndarray:
        """(N, D) float32 of length one."""
        import torch

        with self._lock, torch.inference_mode():
            inputs = self.processor(images=list(pictures), return_tensors="pt").to(self.device)
            return _unit(self.model.get_image_features(**inputs))

    def words(self, texts: Sequence[str]) -> np.ndarray:
        """(N, D) float32 of length one."""
        import torch

        # SigLIP was trained with texts of its full length, padding included, and answers nonsense without
        full = "siglip" in self.model.config.model_type
        with self._lock, torch.inference_mode():
            inputs = self.processor(
                text=list(texts), padding="max_length" if full else True, truncation=True, return_tensors="pt"
            ).to(self.device)
            return _unit(self.model.get_text_features(**inputs))


def source_of(name: str) -> str | None:
    """Where the encoder of that name was opened from; None if it is none of these."""
    return name.removeprefix(PREFIX).rpartition("/")[0] if name.startswith(PREFIX) else None


def _unit(features: Any) -> np.ndarray:
    import torch

    vectors = features if isinstance(features, torch.Tensor) else features.pooler_output
    return torch.nn.functional.normalize(vectors.float(), dim=1).cpu().numpy()


def _digest(model: Any) -> str:
    """Tells weights apart: a digest of the beginning of each tensor."""
    digest = hashlib.sha256()
    for name, value in sorted(model.state_dict().items()):
        digest.update(name.encode())
        digest.update(value.flatten()[:64].float().cpu().numpy().tobytes())
    return digest.hexdigest()[:16]

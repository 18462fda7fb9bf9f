"""Grounding DINO: phrases to boxes, by `transformers` (the extra `detect`).

Source: Liu et al., "Grounding DINO", https://arxiv.org/abs/2303.05499
"""

from __future__ import annotations

import threading
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from ..errors import InputError
from ..pretrained import open_pretrained
from . import Detections

TINY = "IDEA-Research/grounding-dino-tiny"
"""The model where none is named."""


@dataclass(frozen=True, eq=False)
class GroundingDino:
    """A loaded model. One picture at a time; calls from several threads wait for each other."""

    model: Any
    processor: Any
    device: str
    source: str
    threshold: float = 0.35
    """Boxes of a lower score are dropped; the authors' value."""
    _lock: threading.Lock = field(default_factory=threading.Lock, repr=False)

    @property
    def name(self) -> str:
        return f"grounding-dino:{self.source}, scores from {self.threshold:g}"

    @classmethod
    def open(cls, source: str, device: str, threshold: float = 0.35) -> GroundingDino:
        """A Hub id or a folder in transformers' layout, safetensors only. Raises MissingExtra, WeightsNotFound."""
        source, option = source or TINY, f"--detector grounding-dino:{TINY}"
        kind = "AutoModelForZeroShotObjectDetection"
        model, processor = open_pretrained(source, kind, what="a detector", extra="detect", option=option)
        return cls(model.to(device).eval(), processor, device, source, threshold)

    def __call__(self, image: np.ndarray, text: str | None) -> Detections:
        """Raises InputError without a text."""
        import torch

        if not text or not text.strip(" .\n"):
            raise InputError("Grounding DINO needs a text: phrases that end in a full stop, as in 'a cat. a red cup.'")
        with self._lock, torch.inference_mode():
            inputs = self.processor(images=image, text=prompt_of(text), return_tensors="pt").to(self.device)
            outputs = self.model(**inputs)
            chances = outputs.logits[0].sigmoid()  # (queries, tokens)
            spans = self._phrases(inputs["input_ids"][0].tolist())
            of_phrases = torch.stack([chances[:, span].amax(1) for span, _ in spans], dim=1)  # (queries, phrases)
            scores, which = of_phrases.max(1)
            kept = (scores > self.threshold).nonzero()[:, 0]
            height, width = image.shape[:2]
            centre, extent = outputs.pred_boxes[0][kept].split(2, dim=1)
            corners = torch.cat([centre - extent / 2, centre + extent / 2], dim=1)
            boxes = corners * corners.new_tensor([width, height, width, height])
        labels = tuple(spans[i][1] for i in which[kept].tolist())
        return Detections(boxes.float().cpu().numpy(), labels, scores[kept].float().cpu().numpy())

    def _phrases(self, tokens: list[int]) -> list[tuple[list[int], str]]:
        """Where each phrase's tokens stand, and the phrase.

        transformers' own post-processing joins whatever words score, of several phrases at once or half of one; a box of
        ours is labelled with the one phrase that scores best.
        """
        tokenizer = self.processor.tokenizer
        stop = tokenizer.convert_tokens_to_ids(".")
        spans: list[tuple[list[int], str]] = []
        span: list[int] = []
        for place, token in enumerate(tokens):
            if token == stop:
                if span:
                    spans.append((span, tokenizer.decode([tokens[i] for i in span])))
                span = []
            elif token not in tokenizer.all_special_ids or token == tokenizer.unk_token_id:
                span.append(place)
        return spans


def prompt_of(text: str) -> str:
    """Phrases as the model was trained on: in small letters, each with a full stop behind it."""
    phrases = [" ".join(phrase.split()).lower() for phrase in text.replace("\n", ".").split(".")]
    return " ".join(f"{phrase}." for phrase in phrases if phrase)

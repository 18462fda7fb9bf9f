"""One step of tracking: a frame, what is remembered and what the user says, to an object's mask and its memory.

Source: https://github.com/facebookresearch/sam2/blob/main/sam2/modeling/sam2_base.py (track_step and what it calls)
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
import torch.nn.functional as F
from torch import Tensor

from ..errors import ModelError
from ..nets.decoder import ImageFeatures, ImageSide, upsample
from ..nets.memory import MASK_SCALE, MASK_SHIFT, Memory
from ..nets.promptable import Promptable
from ..nets.prompts import PADDING, Prompts
from ..nets.sam2 import Sam2
from .bank import POINTERS, FrameMemory, MemoryBank

ABSENT = -1024.0
"""Mask logits where the object is not there."""


@dataclass(frozen=True, eq=False)
class EncodedFrame:
    """A frame's features, before anything is remembered; all objects share them."""

    features: ImageFeatures
    side: ImageSide
    """What the decoder computes of the finer maps; its tokens are of the frame alone, and are replaced for each object."""


@dataclass(frozen=True, eq=False)
class Engine:
    """The steps of tracking, without any state."""

    net: Sam2
    memory: Memory
    binarize_prompted: bool = True
    """Whether the mask of a frame the user spoke about is remembered as 0 and 1 instead of as probabilities."""

    @classmethod
    def of(cls, net: Promptable, name: str, binarize_prompted: bool = True) -> Engine:
        """Raises ModelError for a network that cannot track."""
        if not isinstance(net, Sam2) or net.memory is None:
            raise ModelError(f"{name} cannot follow objects through a video: its weights hold no memory; use SAM 2 or 2.1")
        return cls(net, net.memory, binarize_prompted)

    def encode(self, square: Tensor) -> EncodedFrame:
        """A normalised square (1, 3, S, S)."""
        encoded = self.net.encode_frame(square.to(self.net.encoding_dtype))
        features = ImageFeatures(encoded.embedding.float(), tuple(x.float() for x in encoded.high_res))
        return EncodedFrame(features, self.net.image_side(self.net.unremembered(features)))

    def track(self, frame: EncodedFrame, bank: MemoryBank, index: int, frames: int | None, backwards: bool) -> FrameMemory:
        """The object on a frame about which the user said nothing."""
        side = self._conditioned(frame, bank, index, frames, backwards)
        found = self._decode(side, self._nothing(), multimask=True)
        return self.remember(frame, found, prompted=False)

    def answer(
        self,
        frame: EncodedFrame,
        prompts: Prompts,
        previous: FrameMemory | None,
        bank: MemoryBank | None,
        index: int,
        frames: int | None,
        backwards: bool,
    ) -> FrameMemory:
        """The object as the user points at it, not remembered yet.

        bank: what is remembered of it on other frames; None for the first frame it is pointed at, or if nothing is to be used.
        previous: what was found on this frame before.
        """
        side = frame.side if bank is None else self._conditioned(frame, bank, index, frames, backwards)
        if previous is not None:
            limit = self.net.logit_limit or 0.0
            prompts = prompts._replace(masks=previous.logits.clamp(-limit, limit))
        points = 0 if prompts.points is None else prompts.points.shape[1]
        points += 0 if prompts.boxes is None else 2
        return self._decode(side, prompts, multimask=points <= 1)

    def answer_mask(self, frame: EncodedFrame, mask: Tensor) -> FrameMemory:
        """The object as a mask (1, 1, S, S) of 0 and 1 in the network's square: it is taken as it is, not remembered yet."""
        logits = mask * MASK_SCALE + MASK_SHIFT
        side = logits.shape[-1] // 4
        small = F.interpolate(logits, (side, side), mode="bilinear", antialias=True)
        drawn = self._nothing()._replace(masks=self.memory.mask_downsample(mask))
        bare = frame.side._replace(features=frame.features)  # without even the embedding of "nothing remembered"
        found = self._decode(bare, drawn, multimask=False)
        present = mask.flatten(1).gt(0).any(1)[:, None].float()
        pointer = present * found.pointer + (1 - present) * self.memory.no_obj_ptr
        return FrameMemory(small, present * MASK_SCALE + MASK_SHIFT, pointer, score=1.0)

    def remember(self, frame: EncodedFrame, found: FrameMemory, prompted: bool) -> FrameMemory:
        """The same with its memory."""
        size = self.net.input_size
        mask = upsample(found.logits, (size, size))
        mask = (mask > 0).float() if prompted and self.binarize_prompted else mask.sigmoid()
        present = (found.present > 0).float()
        return replace(found, memory=self.memory.remember(frame.features.embedding, mask, present))

    def _nothing(self) -> Prompts:
        """The prompt of a frame about which nothing is said: one point that is none."""
        device = self.net.device
        return Prompts(points=torch.zeros(1, 1, 2, device=device), labels=torch.full((1, 1), PADDING, device=device))

    def _conditioned(self, frame: EncodedFrame, bank: MemoryBank, index: int, frames: int | None, backwards: bool) -> ImageSide:
        recalled = bank.recall(index, frames, backwards, signed=self.memory.config.pointer_times)
        most = max(1, (POINTERS if frames is None else min(frames, POINTERS)) - 1)
        embedding = self.memory.recall(frame.features.embedding, *recalled, most)
        nothing = self.net.prompt_encoder.no_mask_embed.weight[:, :, None, None]
        features = frame.features._replace(embedding=embedding)
        tokens = self.net.mask_decoder.tokens_of(embedding, nothing, self.net.prompt_encoder.dense_positions())
        return frame.side._replace(features=features, tokens=tokens)

    def _decode(self, side: ImageSide, prompts: Prompts, multimask: bool) -> FrameMemory:
        masks = self.net.predict(side, prompts, multimask)
        best = int(masks.scores[0].argmax())
        present = masks.object_score
        if present is None:
            raise ModelError("a network that tracks must tell whether the object is there")
        there = (present > 0).float()
        logits = torch.where(present[..., None, None] > 0, masks.logits[:, [best]], ABSENT)
        pointer = self.memory.pointer(masks.tokens[:, best], there)
        return FrameMemory(logits, present, pointer, float(masks.scores[0, best]))

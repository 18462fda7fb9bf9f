"""One step of tracking: a frame, what is remembered and what the user says, to an object's mask and its memory.

Source: https://github.com/facebookresearch/sam2/blob/main/sam2/modeling/sam2_base.py (track_step and what it calls)
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
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
from .bank import POINTERS, FrameMemory, MemoryBank, Recalled

ABSENT = -1024.0
"""Mask logits where the object is not there."""

TOGETHER = 16
"""Objects that go through the network at once on a GPU."""


@dataclass(frozen=True, eq=False)
class EncodedFrame:
    """A frame's features, before anything is remembered; all objects share them."""

    features: ImageFeatures
    finer: tuple[Tensor, Tensor]
    """What the decoder computes of the finer maps."""
    positions: Tensor
    """(1, S, C): where each cell lies."""


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
        finer = self.net.mask_decoder.finer_parts(features)
        return EncodedFrame(features, finer, self.net.prompt_encoder.dense_positions())

    def track(
        self, frame: EncodedFrame, banks: Sequence[MemoryBank], index: int, frames: int | None, backwards: bool
    ) -> list[FrameMemory]:
        """Each object on a frame about which the user said nothing of it.

        The frame looks at itself once for all of them. On a GPU objects that are remembered from the same distances go through
        the network together; on a CPU one after another, so that what one of them needs stays in the processor's cache.
        """
        if not banks:
            return []
        begun = self.memory.begin(frame.features.embedding)
        recalled = [self._recalled(bank, index, frames, backwards) for bank in banks]
        found: dict[int, FrameMemory] = {}
        for rows in alike(recalled, TOGETHER if begun.device.type != "cpu" else 1):
            embedding = self._remembering(frame, begun, Recalled.joined([recalled[i] for i in rows]), frames)
            answers = self._decode(frame, embedding, self._nothing(), multimask=True)
            found |= zip(rows, self._remember(frame, answers, prompted=False), strict=True)
        return [found[i] for i in range(len(banks))]

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
        if bank is None:
            embedding = self.net.unremembered(frame.features).embedding
        else:
            begun = self.memory.begin(frame.features.embedding)
            embedding = self._remembering(frame, begun, self._recalled(bank, index, frames, backwards), frames)
        if previous is not None:
            limit = self.net.logit_limit or 0.0
            prompts = prompts._replace(masks=previous.logits.clamp(-limit, limit))
        points = 0 if prompts.points is None else prompts.points.shape[1]
        points += 0 if prompts.boxes is None else 2
        (found,) = self._decode(frame, embedding, prompts, multimask=points <= 1)
        return found

    def answer_mask(self, frame: EncodedFrame, mask: Tensor) -> FrameMemory:
        """The object as a mask (1, 1, S, S) of 0 and 1 in the network's square: it is taken as it is, not remembered yet."""
        logits = mask * MASK_SCALE + MASK_SHIFT
        side = logits.shape[-1] // 4
        small = F.interpolate(logits, (side, side), mode="bilinear", antialias=True)
        drawn = self._nothing()._replace(masks=self.memory.mask_downsample(mask))
        bare = frame.features.embedding  # without even the embedding of "nothing remembered"
        (found,) = self._decode(frame, bare, drawn, multimask=False)
        present = mask.flatten(1).gt(0).any(1)[:, None].float()
        pointer = present * found.pointer + (1 - present) * self.memory.no_obj_ptr
        return FrameMemory(small, present * MASK_SCALE + MASK_SHIFT, pointer, score=1.0)

    def remember(self, frame: EncodedFrame, found: FrameMemory, prompted: bool) -> FrameMemory:
        """The same with its memory."""
        (remembered,) = self._remember(frame, [found], prompted)
        return remembered

    def _remember(self, frame: EncodedFrame, found: Sequence[FrameMemory], prompted: bool) -> list[FrameMemory]:
        size = self.net.input_size
        mask = upsample(torch.cat([one.logits for one in found]), (size, size))
        mask = (mask > 0).float() if prompted and self.binarize_prompted else mask.sigmoid()
        present = torch.cat([one.present for one in found]) > 0
        memories = self.memory.remember(frame.features.embedding, mask, present.float())
        return [replace(one, memory=memory) for one, memory in zip(found, own_rows(memories), strict=True)]

    def _nothing(self) -> Prompts:
        """The prompt of a frame about which nothing is said: one point that is none."""
        device = self.net.device
        return Prompts(points=torch.zeros(1, 1, 2, device=device), labels=torch.full((1, 1), PADDING, device=device))

    def _recalled(self, bank: MemoryBank, index: int, frames: int | None, backwards: bool) -> Recalled:
        return bank.recall(index, frames, backwards, signed=self.memory.config.pointer_times)

    def _remembering(self, frame: EncodedFrame, begun: Tensor, recalled: Recalled, frames: int | None) -> Tensor:
        """The frame's embedding for each object (N, C, h, w), with what is remembered of it."""
        most = max(1, (POINTERS if frames is None else min(frames, POINTERS)) - 1)
        height, width = frame.features.embedding.shape[2:]
        return self.memory.recall(begun, (height, width), *recalled, most)

    def _decode(self, frame: EncodedFrame, embedding: Tensor, prompts: Prompts, multimask: bool) -> list[FrameMemory]:
        """One prompt, asked of each embedding (N, C, h, w): N answers, not remembered yet."""
        encoder, decoder = self.net.prompt_encoder, self.net.mask_decoder
        tokens = encoder(prompts)
        dense = encoder.no_mask_embed.weight[:, :, None, None] if tokens.dense is None else tokens.dense
        cells = decoder.tokens_of(embedding, dense, frame.positions)
        side = ImageSide(frame.features._replace(embedding=embedding), cells, *frame.finer, frame.positions)
        masks = decoder.masks(side, decoder.decode(side, tokens.sparse.expand(len(embedding), -1, -1)), multimask)
        rows, best, present = torch.arange(len(embedding), device=embedding.device), masks.scores.argmax(1), masks.object_score
        if present is None:
            raise ModelError("a network that tracks must tell whether the object is there")
        there = present > 0  # (N, 1)
        logits = torch.where(there[..., None, None], masks.logits[rows, best][:, None], ABSENT)
        pointers = self.memory.pointer(masks.tokens[rows, best], there.float())
        parts = (own_rows(x) for x in (logits, present, pointers))
        return [FrameMemory(*one) for one in zip(*parts, masks.scores[rows, best].tolist(), strict=True)]


def own_rows(values: Tensor) -> list[Tensor]:
    """(N, ...) -> N of (1, ...), each of which can be forgotten without the others."""
    return [values] if len(values) == 1 else [row.clone() for row in torch.split(values, 1)]


def alike(recalled: Sequence[Recalled], most: int) -> Iterator[list[int]]:
    """Which objects can go through the network together: those that look equally far back, at most so many at a time."""
    groups: dict[tuple[tuple[int, ...], ...], list[int]] = {}
    for i, one in enumerate(recalled):
        groups.setdefault(one.distances, []).append(i)
    for rows in groups.values():
        yield from (rows[i : i + most] for i in range(0, len(rows), most))

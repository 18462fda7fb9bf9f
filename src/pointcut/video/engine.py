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
from ..nets.decoder import ImageFeatures, ImageSide
from ..nets.following import Found
from ..nets.memory import MASK_SCALE, MASK_SHIFT, Memory, Recollection
from ..nets.promptable import Promptable
from ..nets.prompts import Prompts
from ..nets.running import encoding, inference, inferring
from ..nets.sam2 import Sam2
from .bank import POINTERS, FrameMemory, MemoryBank, Recalled

TOGETHER = 16
"""Objects that go through the network at once on a GPU."""


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

    def encode(self, square: Tensor) -> ImageSide:
        """A normalised square (1, 3, S, S)."""
        with encoding(self.net.device):
            encoded = self.net.encode_frame(square.to(self.net.encoding_dtype))
        with inference(self.net.device):
            return self.net.ready(ImageFeatures(encoded.embedding.float(), tuple(x.float() for x in encoded.high_res)))

    @inferring
    def track(
        self, frame: ImageSide, banks: Sequence[MemoryBank], index: int, frames: int | None, backwards: bool
    ) -> list[FrameMemory]:
        """Each object on a frame about which the user said nothing of it.

        The frame looks at itself once for all of them. On a GPU objects that are remembered from the same distances go through
        the network together; on a CPU one after another, so that what one of them needs stays in the processor's cache.
        """
        if not banks:
            return []
        follow = self.net.follower(frame)
        recalled = [self._recalled(bank, index, frames, backwards) for bank in banks]
        found: dict[int, FrameMemory] = {}
        for rows in alike(recalled, TOGETHER if self.net.device.type != "cpu" else 1):
            answers, memories = follow(self._recollected(frame, Recalled.joined([recalled[i] for i in rows]), frames))
            found |= zip(rows, each_alone(answers, memories), strict=True)
        return [found[i] for i in range(len(banks))]

    @inferring
    def answer(
        self,
        frame: ImageSide,
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
            seen = self._recollected(frame, self._recalled(bank, index, frames, backwards), frames)
            embedding = self.memory.recall(self.memory.begin(frame.features.embedding), frame.grid, seen)
        if previous is not None:
            prompts = prompts._replace(masks=self.net.limited(previous.logits))
        points = 0 if prompts.points is None else prompts.points.shape[1]
        points += 0 if prompts.boxes is None else 2
        found = self.net.find(frame, embedding, prompts, multimask=points <= 1)
        if self.memory.config.looks_again and prompts.masks is None:
            again = prompts._replace(masks=self.net.limited(found.logits))
            found = self.net.find(frame, embedding, again, multimask=False)
        return FrameMemory(*found)

    @inferring
    def answer_mask(self, frame: ImageSide, mask: Tensor) -> FrameMemory:
        """The object as a mask (1, 1, S, S) of 0 and 1, S of `mask_size`: it is taken as it is, not remembered yet."""
        logits = mask * MASK_SCALE + MASK_SHIFT
        side = logits.shape[-1] // 4
        small = F.interpolate(logits, (side, side), mode="bilinear", antialias=True)
        drawn = self.net.unprompted()._replace(masks=self.memory.mask_downsample(mask))
        bare = frame.features.embedding  # without even the embedding of "nothing remembered"
        found = self.net.find(frame, bare, drawn, multimask=False)
        present = mask.flatten(1).gt(0).any(1)[:, None].float()
        pointer = present * found.pointer + (1 - present) * self.memory.no_obj_ptr
        return FrameMemory(small, present * MASK_SCALE + MASK_SHIFT, pointer, torch.ones_like(found.score))

    @inferring
    def remember(self, frame: ImageSide, found: FrameMemory) -> FrameMemory:
        """The same with its memory, as a frame that the user spoke about."""
        memory = self.net.memorise(frame, found.logits, found.present, binary=self.binarize_prompted)
        return replace(found, memory=memory)

    def _recalled(self, bank: MemoryBank, index: int, frames: int | None, backwards: bool) -> Recalled:
        return bank.recall(index, frames, backwards, signed=self.memory.config.pointer_times)

    def _recollected(self, frame: ImageSide, recalled: Recalled, frames: int | None) -> Recollection:
        most = max(1, (POINTERS if frames is None else min(frames, POINTERS)) - 1)
        return self.memory.recollect(frame.grid, *recalled, most)


def each_alone(found: Found, memories: Tensor) -> list[FrameMemory]:
    """N objects that went through the network together, of which each can be forgotten without the others."""
    parts = (torch.split(x, 1) if len(x) == 1 else [row.clone() for row in torch.split(x, 1)] for x in (*found, memories))
    return [FrameMemory(*one) for one in zip(*parts, strict=True)]


def alike(recalled: Sequence[Recalled], most: int) -> Iterator[list[int]]:
    """Which objects can go through the network together: those that look equally far back, at most so many at a time."""
    groups: dict[tuple[tuple[int, ...], ...], list[int]] = {}
    for i, one in enumerate(recalled):
        groups.setdefault(one.distances, []).append(i)
    for rows in groups.values():
        yield from (rows[i : i + most] for i in range(0, len(rows), most))

"""What is remembered of one object: a handful of frames, however long the video is.

Source: SAM 2 paper, section 4 ("Memory bank"); https://github.com/facebookresearch/sam2/blob/main/sam2/modeling/sam2_base.py
(_prepare_memory_conditioned_features)
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import NamedTuple

import torch
from torch import Tensor

POINTERS = 16
"""Object pointers that a frame looks at, those of prompted frames not counted."""


@dataclass(frozen=True, eq=False)
class FrameMemory:
    """One object on one frame: its mask, and what later frames are told of it."""

    logits: Tensor
    """(1, 1, h, w) low-resolution mask logits; -1024 everywhere where the object is not there."""
    present: Tensor
    """(1, 1) logit that the object is there."""
    pointer: Tensor
    """(1, C)."""
    score: Tensor
    """(1,): the IoU with the true mask that the model expects, 0..1; where the network is, for to ask a GPU is to wait."""
    memory: Tensor | None = None
    """(1, S, C_mem) bfloat16; None until the user has finished with the frame, or once it is too old to be looked at."""


class Recalled(NamedTuple):
    """What a frame looks at, of one object or of several; arguments of `Memory.recollect`."""

    memories: list[tuple[int, Tensor]]
    pointers: list[tuple[int, Tensor]]

    @property
    def distances(self) -> tuple[tuple[int, ...], ...]:
        """The slots of the memories, and how many frames ago the pointers are."""
        return tuple(slot for slot, _ in self.memories), tuple(ago for ago, _ in self.pointers)

    @classmethod
    def joined(cls, objects: Sequence[Recalled]) -> Recalled:
        """Of objects that look equally far back."""

        def rows(parts: Sequence[list[tuple[int, Tensor]]]) -> list[tuple[int, Tensor]]:
            return [(same[0][0], torch.cat([values for _, values in same])) for same in zip(*parts, strict=True)]

        return cls(rows([one.memories for one in objects]), rows([one.pointers for one in objects]))


@dataclass
class MemoryBank:
    """The frames of one object."""

    slots: int
    """Memories that a frame looks at, prompted ones counted as one."""
    prompted: dict[int, FrameMemory] = field(default_factory=dict)
    """Frames the user spoke about: always looked at, never forgotten."""
    tracked: dict[int, FrameMemory] = field(default_factory=dict)

    def at(self, frame: int) -> FrameMemory | None:
        """What is known of a frame."""
        return self.prompted.get(frame) or self.tracked.get(frame)

    def recall(self, frame: int, frames: int | None, backwards: bool, signed: bool) -> Recalled:
        """What frame number `frame` of `frames` (None: nobody knows) looks at.

        `signed`: whether pointers of prompted frames tell on which side they lie (SAM 2.1).
        """
        step = 1 if backwards else -1  # towards what was tracked before
        memories = [(0, known.memory) for known in self.prompted.values() if known.memory is not None]
        for ago in range(self.slots - 1, 0, -1):
            known = self.tracked.get(frame + step * ago)
            if known is not None and known.memory is not None:
                memories.append((ago, known.memory))
        pointers = []
        for other, known in self.prompted.items():
            ago = (frame - other) * -step
            if ago >= 0:
                pointers.append((ago if signed else abs(ago), known.pointer))
        for ago in range(1, POINTERS if frames is None else min(frames, POINTERS)):
            known = self.tracked.get(frame + step * ago)
            if known is not None:
                pointers.append((ago, known.pointer))
        return Recalled(memories, pointers)

    def forget(self, frame: int, backwards: bool) -> None:
        """Drops what no frame after `frame` in this direction looks at, so that the bank never grows."""
        for other in list(self.tracked):
            ago = (other - frame) if backwards else (frame - other)
            if not 0 <= ago < POINTERS - 1:
                del self.tracked[other]
            elif ago >= self.slots - 1:
                self.tracked[other] = replace(self.tracked[other], memory=None)

    def clear_around(self, frame: int) -> None:
        """Drops what was tracked around a frame that was corrected."""
        for other in range(frame - self.slots, frame + self.slots + 1):
            self.tracked.pop(other, None)

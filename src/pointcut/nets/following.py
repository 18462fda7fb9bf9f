"""What a network finds of objects on a video's frame, and the step that follows them there as a compiled graph."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from torch import Tensor

from .compiled import Compiled, filled, room
from .decoder import ImageFeatures, ImageSide
from .memory import Recollection

if TYPE_CHECKING:
    from .sam2 import Sam2

ABSENT = -1024.0
"""Mask logits where the object is not there."""


class Found(NamedTuple):
    """N objects on a video's frame."""

    logits: Tensor
    """(N, 1, 4h, 4w); `ABSENT` everywhere where the object is not there."""
    present: Tensor
    """(N, 1) logit that the object is there."""
    pointer: Tensor
    """(N, C)."""
    score: Tensor
    """(N,): the IoU with the true mask that is expected, 0..1."""


class CompiledFollowing:
    """`Sam2.follow` as one compiled graph, whatever the bank holds: from a frame's embedding to objects and their memories."""

    def __init__(self, net: Sam2, backend: str) -> None:
        def follow(
            embedding: Tensor, quarters: Tensor, sixteenths: Tensor, positions: Tensor, *seen: Tensor
        ) -> tuple[Tensor, ...]:
            frame = ImageSide(ImageFeatures(embedding, ()), None, quarters, sixteenths, positions)
            found, memories = net.follow(frame, net.remembering.begin(embedding), Recollection(*seen))
            return *found, memories

        self.step = Compiled(follow, backend, any_length={4: 1, 5: 1, 6: 0})

    def __call__(self, frame: ImageSide, seen: Recollection) -> tuple[Found, Tensor]:
        """N objects, filled up to a power of two."""
        count = len(seen.memory)
        wide = seen._replace(memory=filled(seen.memory, room(count)))
        answers = self.step(frame.features.embedding, frame.quarters, frame.sixteenths, frame.positions, *wide)
        *found, memories = (x[:count] for x in answers)
        return Found(*found), memories

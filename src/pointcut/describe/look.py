"""What the model is shown of a segment, and asked."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from ..draw import Background, jpeg
from ..errors import InputError
from ..segments import Segments

ASK = "What is this? Answer with a few words."
"""The question, where none is given."""

HINTS: dict[Background, str] = {
    "dim": "The object is shown as it is; what surrounds it is darkened.",
    "remove": "The object stands alone on white.",
    "outline": "The object has a red outline.",
}


@dataclass(frozen=True)
class Look:
    """How a segment is shown, and what is asked. Raises InputError."""

    ask: str = ASK
    background: Background = "dim"
    """What becomes of what is not the object: darkened, white, or left as it is with a red line around the object."""
    context: float = 0.25
    """How much of what surrounds the object is shown on each side, as a share of its box's longer side."""
    side: int = 768
    """The longer side of the picture that is sent, at most."""

    def __post_init__(self) -> None:
        if not self.ask.strip():
            raise InputError("a question is needed, as in 'What is this?'")
        if self.background not in HINTS:
            raise InputError(f"a background is one of {', '.join(HINTS)}, got {self.background!r}")
        if not 0 <= self.context <= 4 or not 32 <= self.side <= 4096:
            raise InputError(f"context is 0 to 4 and side 32 to 4096, got {self.context} and {self.side}")

    @property
    def question(self) -> str:
        """What is asked, and what is to be looked at."""
        return f"{self.ask.strip()}\n({HINTS[self.background]} Text in the picture is part of the picture.)"

    def pictures(self, cut: Segments) -> Iterator[bytes]:
        """Each mask as it is sent: a JPEG, one at a time."""
        for row in range(len(cut)):
            yield jpeg(cut.close_up(row, context=self.context, background=self.background, side=self.side), quality=90)

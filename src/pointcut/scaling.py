"""Deep values (16-bit, float) to 8 bits: which becomes black, which white."""

from __future__ import annotations

import math
import re
from dataclasses import dataclass
from typing import Literal, NamedTuple

import numpy as np

from .errors import InputError

Kind = Literal["extent", "percent", "window", "full"]


class Limits(NamedTuple):
    """What became 0 and 255; values between lie evenly between, those beyond are cut off."""

    black: float
    white: float


@dataclass(frozen=True)
class Scaling:
    """How `Limits` are chosen. Raises InputError for limits that leave nothing between."""

    kind: Kind = "extent"
    """extent: the smallest and the largest value. percent: shares of the values. window: given. full: what the type can hold
    (floats: 0 to 1)."""
    low: float = 0.0
    """percent: 0 to 100; window: a value."""
    high: float = 0.0

    def __post_init__(self) -> None:
        if self.kind not in ("percent", "window"):
            return
        if not (math.isfinite(self.low) and math.isfinite(self.high) and self.low < self.high):
            raise InputError(f"the lower limit of a scaling must be below the upper one, got {self.low:g} and {self.high:g}")
        if self.kind == "percent" and (self.low < 0 or self.high > 100):
            raise InputError(f"percentiles lie between 0 and 100, got {self.low:g} and {self.high:g}")

    @classmethod
    def parse(cls, text: str) -> Scaling:
        """`extent`, `full`, `2%,98%` or `-100,400`. Raises InputError."""
        if text == "extent":
            return cls("extent")
        if text == "full":
            return cls("full")
        match = re.fullmatch(r"\s*([^,%]+)(%?)\s*,\s*([^,%]+)(%?)\s*", text)
        try:
            if match is None or match[2] != match[4]:
                raise ValueError
            return cls("percent" if match[2] else "window", float(match[1]), float(match[3]))
        except InputError:
            raise
        except ValueError:
            raise InputError(f"expected extent, full, percentiles (2%,98%) or values (-100,400), got {text!r}") from None

    def limits(self, values: np.ndarray) -> Limits:
        """For these values, of any shape; what is not finite does not count. Raises InputError if none is finite."""
        if self.kind == "window":
            return Limits(self.low, self.high)
        if self.kind == "full":
            whole = np.iinfo(values.dtype) if np.issubdtype(values.dtype, np.integer) else None
            return Limits(float(whole.min), float(whole.max)) if whole else Limits(0.0, 1.0)
        finite = values[np.isfinite(values)] if np.issubdtype(values.dtype, np.floating) else values.ravel()
        if not finite.size:
            raise InputError("holds no finite value")
        if self.kind == "percent":
            low, high = np.percentile(finite, (self.low, self.high))
            return Limits(float(low), float(high))
        return Limits(float(finite.min()), float(finite.max()))


def to_bytes(values: np.ndarray, limits: Limits) -> np.ndarray:
    """Values of any shape -> uint8; what is not finite becomes black, and so does everything where the limits are one."""
    span = limits.white - limits.black
    values = values.astype(np.float64)
    if span <= 0:
        return np.zeros(values.shape, np.uint8)
    share = (np.where(np.isfinite(values), values, limits.black) - limits.black) / span
    return (share.clip(0, 1) * 255).round().astype(np.uint8)

"""Pointcut: point at it, cut it out. The Segment Anything family as software.

    import pointcut

    model = pointcut.load("nano")               # built in; or "sam2.1-tiny", a Hub id, a file
    photo = model.encode("dog.jpg")             # once
    cut = photo.segment(points=[(500, 375)])    # many times
    cut.best.save("dog.png")                    # RGBA cut-out

All but the errors are loaded when they are first used, so that importing the package loads no torch.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

from .errors import (
    DeviceUnavailable,
    ImageTooLarge,
    InputError,
    InvalidPrompt,
    MissingExtra,
    ModelError,
    OutputError,
    PointcutError,
    UnknownModel,
    UnreadableImage,
    WeightsMismatch,
    WeightsNotFound,
    WeightsRefused,
)

if TYPE_CHECKING:
    from .images import Frame, open_image
    from .plotting import show, show_mask
    from .prompts import Prompt
    from .segment.segmenter import Segmenter, load, load_encoded_image
    from .segment.session import EncodedImage
    from .segments import Segments

__version__ = "0.1.0"

_HOMES = {
    "images": ("Frame", "open_image"),
    "prompts": ("Prompt",),
    "segment.segmenter": ("Segmenter", "load", "load_encoded_image"),
    "segment.session": ("EncodedImage",),
    "segments": ("Segments",),
    "plotting": ("show", "show_mask"),
}
_HOME_OF = {name: home for home, names in _HOMES.items() for name in names}

__all__ = [
    "DeviceUnavailable",
    "EncodedImage",
    "Frame",
    "ImageTooLarge",
    "InputError",
    "InvalidPrompt",
    "MissingExtra",
    "ModelError",
    "OutputError",
    "PointcutError",
    "Prompt",
    "Segmenter",
    "Segments",
    "UnknownModel",
    "UnreadableImage",
    "WeightsMismatch",
    "WeightsNotFound",
    "WeightsRefused",
    "__version__",
    "load",
    "load_encoded_image",
    "open_image",
    "show",
    "show_mask",
]


def __getattr__(name: str) -> object:
    if name not in _HOME_OF:
        raise AttributeError(f"module 'pointcut' has no attribute {name!r}")
    return getattr(import_module(f".{_HOME_OF[name]}", __name__), name)


def __dir__() -> list[str]:
    return list(__all__)

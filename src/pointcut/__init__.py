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
    BrokenImage,
    DeviceUnavailable,
    ImageTooLarge,
    InputError,
    InvalidPrompt,
    MissingExtra,
    ModelError,
    OutputError,
    PointcutError,
    ServerError,
    UnknownModel,
    UnreadableImage,
    UnsupportedImage,
    WeightsMismatch,
    WeightsNotFound,
    WeightsRefused,
)

if TYPE_CHECKING:
    from .arrange import label_map, parents, select, without_duplicates, without_small_regions
    from .automatic.config import AutomaticConfig
    from .client import Client
    from .count import Counted, Specimen, count_objects
    from .images import Frame, Picture, Reading, open_image
    from .plotting import show, show_mask
    from .prompts import Prompt
    from .reading import read_picture
    from .scaling import Scaling
    from .segment.segmenter import Segmenter, load, load_encoded_image
    from .segment.session import EncodedImage
    from .segments import Preview, Segments

__version__ = "0.1.0"

_HOMES = {
    "arrange": ("label_map", "parents", "select", "without_duplicates", "without_small_regions"),
    "automatic.config": ("AutomaticConfig",),
    "client": ("Client",),
    "count": ("Counted", "Specimen", "count_objects"),
    "images": ("Frame", "Picture", "Reading", "open_image"),
    "prompts": ("Prompt",),
    "reading": ("read_picture",),
    "scaling": ("Scaling",),
    "segment.segmenter": ("Segmenter", "load", "load_encoded_image"),
    "segment.session": ("EncodedImage",),
    "segments": ("Preview", "Segments"),
    "plotting": ("show", "show_mask"),
}
_HOME_OF = {name: home for home, names in _HOMES.items() for name in names}

__all__ = [
    "AutomaticConfig",
    "BrokenImage",
    "Client",
    "Counted",
    "DeviceUnavailable",
    "EncodedImage",
    "Frame",
    "ImageTooLarge",
    "InputError",
    "InvalidPrompt",
    "MissingExtra",
    "ModelError",
    "OutputError",
    "Picture",
    "PointcutError",
    "Preview",
    "Prompt",
    "Reading",
    "Scaling",
    "Segmenter",
    "Segments",
    "ServerError",
    "Specimen",
    "UnknownModel",
    "UnreadableImage",
    "UnsupportedImage",
    "WeightsMismatch",
    "WeightsNotFound",
    "WeightsRefused",
    "__version__",
    "count_objects",
    "label_map",
    "load",
    "load_encoded_image",
    "open_image",
    "parents",
    "read_picture",
    "select",
    "show",
    "show_mask",
    "without_duplicates",
    "without_small_regions",
]


def __getattr__(name: str) -> object:
    if name not in _HOME_OF:
        raise AttributeError(f"module 'pointcut' has no attribute {name!r}")
    return getattr(import_module(f".{_HOME_OF[name]}", __name__), name)


def __dir__() -> list[str]:
    return list(__all__)

"""OpenCV, where it is installed: an extra, imported when it is used."""

from __future__ import annotations

from typing import Any

from .errors import MissingExtra


def opencv(what: str) -> Any:
    """The module `cv2`. Raises MissingExtra, which says what needs it."""
    try:
        import cv2
    except ImportError:
        raise MissingExtra(f"{what} need the extra: pip install 'pointcut[export]'") from None
    return cv2

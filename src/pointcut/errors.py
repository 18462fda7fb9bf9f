"""Every error that Pointcut raises on purpose. Messages say what was expected, what was found, and what to do next.

PointcutError                 catch this for all of them
├── InputError                what was passed in cannot be used
│   ├── UnreadableImage       no picture can be had from it
│   │   ├── UnsupportedImage  not an image, or of a kind that is not read here
│   │   └── BrokenImage       begins like an image, and is broken or cut off
│   ├── ImageTooLarge         more pixels than the limit; nothing was decoded
│   └── InvalidPrompt         a point outside the picture, a box of no area, shapes that do not match
├── ModelError                a model cannot be had
│   ├── UnknownModel          no such name, Hub id or file
│   ├── WeightsNotFound       known, but not on this machine, and it cannot be downloaded now
│   ├── WeightsRefused        the file could run code, or holds more than plain tensors
│   └── WeightsMismatch       broken or incomplete, a digest that differs, or tensors of another network
├── ServerError               a server refused, failed, or cannot be reached
├── DeviceUnavailable         the device that was asked for is not on this machine
├── MissingExtra              an optional dependency is not installed
└── OutputError               a result cannot be written
"""

from __future__ import annotations


class PointcutError(Exception):
    """The root: catch it for every error that Pointcut raises on purpose."""

    exit_code = 1
    """What the command returns for it: 1 an input failed, 2 the call itself was wrong."""


class InputError(PointcutError, ValueError):
    """What was passed in cannot be used."""


class UnreadableImage(InputError):
    """No picture can be had from it."""


class UnsupportedImage(UnreadableImage):
    """Not an image, or of a kind that is not read here."""


class BrokenImage(UnreadableImage):
    """Begins like an image, and is broken or cut off."""


class ImageTooLarge(InputError):
    """More pixels than the limit; nothing was decoded."""


class InvalidPrompt(InputError):
    """A point outside the picture, a box of no area, shapes that do not match."""

    exit_code = 2


class ModelError(PointcutError):
    """A model cannot be had."""

    exit_code = 2


class UnknownModel(ModelError, LookupError):
    """No such name, Hub id or file."""


class WeightsNotFound(ModelError, FileNotFoundError):
    """A known model that is not on this machine and cannot be downloaded now."""


class WeightsRefused(ModelError):
    """The file could run code, or holds more than plain tensors."""


class WeightsMismatch(ModelError):
    """A broken or incomplete file, a digest that differs, or tensors of another network."""


class ServerError(PointcutError):
    """A server refused, failed, or cannot be reached."""

    def __init__(self, message: str, status: int, code: str) -> None:
        """status: of HTTP, 0 where there was no answer. code: the server's own word for it."""
        super().__init__(message)
        self.status, self.code = status, code


class DeviceUnavailable(PointcutError):
    """The device that was asked for is not on this machine."""

    exit_code = 2


class MissingExtra(PointcutError, ImportError):
    """An optional dependency is not installed."""

    exit_code = 2


class OutputError(PointcutError, OSError):
    """A result cannot be written."""


def first_line(error: BaseException) -> str:
    """What somebody else's error says, short enough to stand within a message of ours."""
    lines = str(error).splitlines()
    return lines[0][:200] if lines else type(error).__name__

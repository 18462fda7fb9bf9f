"""What goes over the wire as JSON: numbers out, errors back."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from ..errors import InputError, InvalidPrompt, PointcutError, ServerError

if TYPE_CHECKING:
    import httpx

USER_ERRORS: dict[str, type[PointcutError]] = {"invalid_prompt": InvalidPrompt, "invalid_input": InputError}


def given(said: dict[str, Any]) -> dict[str, Any]:
    """Without what was left out: the server has defaults of its own."""
    return {name: value for name, value in said.items() if value is not None}


def plain(value: Any) -> Any:
    """Arrays, and lists of them, as lists of numbers."""
    if isinstance(value, np.ndarray | np.generic):
        return value.tolist()
    return [plain(one) for one in value] if isinstance(value, list | tuple) else value


def error_of(response: httpx.Response) -> PointcutError:
    try:
        told = response.json()
        return error_from(response.status_code, told["code"], told["detail"])
    except (ValueError, KeyError, TypeError):
        return ServerError(f"the server answered {response.status_code}", response.status_code, "unknown")


def error_from(status: int, code: str, detail: str) -> PointcutError:
    if code in USER_ERRORS:
        return USER_ERRORS[code](detail)
    return ServerError(f"{detail} ({status} {code})", status, code)

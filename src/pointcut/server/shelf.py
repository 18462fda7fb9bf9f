"""What the server keeps between requests: encoded pictures under handles, bounded in bytes."""

from __future__ import annotations

import hashlib
import hmac
import threading
from collections import OrderedDict
from collections.abc import Hashable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, fields, is_dataclass
from typing import Any

import numpy as np
import torch

from .problems import Problem


class Shelf:
    """Values by key, the least recently used thrown out first when they take more than so many bytes. Safe between threads."""

    def __init__(self, room: int) -> None:
        self.room, self.taken, self.evicted = room, 0, 0
        self._values: OrderedDict[Hashable, tuple[Any, int]] = OrderedDict()
        self._lock = threading.Lock()

    def __len__(self) -> int:
        return len(self._values)

    def put(self, key: Hashable, value: Any, size: int) -> None:
        with self._lock:
            self._drop(key)
            self._values[key] = value, size
            self.taken += size
            while self.taken > self.room and len(self._values) > 1:
                self._drop(next(iter(self._values)))
                self.evicted += 1

    def get(self, key: Hashable) -> Any | None:
        with self._lock:
            if key not in self._values:
                return None
            self._values.move_to_end(key)
            return self._values[key][0]

    def drop(self, key: Hashable) -> bool:
        with self._lock:
            return self._drop(key)

    def _drop(self, key: Hashable) -> bool:
        value = self._values.pop(key, None)
        if value is not None:
            self.taken -= value[1]
        return value is not None


def bytes_of(value: Any) -> int:
    """What arrays and tensors in a value take, those in its fields and parts included."""
    if isinstance(value, torch.Tensor):
        return value.numel() * value.element_size()
    if isinstance(value, np.ndarray):
        return value.nbytes
    if isinstance(value, tuple | list):
        return sum(bytes_of(one) for one in value)
    if is_dataclass(value) and not isinstance(value, type):
        return sum(bytes_of(getattr(value, field.name)) for field in fields(value))
    return 0


@dataclass(frozen=True)
class Handles:
    """Names of pictures: 32 digits of the file's SHA-256, which a proxy can send to the same replica, and 16 that only this
    server (or one with the same tokens) can make for that owner and model. So a handle that was issued can be told from one
    that was not, after the picture is gone and after a restart, and one owner's handles are nothing to another.
    """

    models: tuple[str, ...]

    @staticmethod
    def digest(data: bytes) -> str:
        return hashlib.sha256(data).hexdigest()[:32]

    def issue(self, owner: str, digest: str, model: str) -> str:
        """The handle of a file with that digest."""
        return f"{digest}-{self._mark(owner, digest, model)}"

    def model(self, owner: str, handle: str) -> str:
        """Whose encoding a handle names. Raises Problem 404 if it was not issued to this owner."""
        digest, _, mark = handle.partition("-")
        for model in self.models:
            if hmac.compare_digest(mark.encode(), self._mark(owner, digest, model).encode()):
                return model
        raise Problem(404, "no_such_image", "no picture has this handle: upload it (POST /v1/images)")

    @staticmethod
    def _mark(owner: str, digest: str, model: str) -> str:
        return hmac.new(owner.encode(), f"{digest}/{model}".encode(), hashlib.sha256).hexdigest()[:16]


class Budget:
    """Bytes that uploads take while they are worked on; what does not fit is sent away."""

    def __init__(self, room: int) -> None:
        self.room, self.taken = room, 0
        self._lock = threading.Lock()

    @contextmanager
    def share(self, size: int) -> Iterator[Share]:
        """For one upload of so many bytes, until the block is left. Raises Problem 429."""
        share = Share(self)
        try:
            share.grow(size)
            yield share
        finally:
            share.grow(-share.taken)

    def take(self, size: int) -> None:
        """Raises Problem 429."""
        with self._lock:
            if size > 0 and self.taken and self.taken + size > self.room:
                raise Problem(429, "busy", "too many uploads at once; try again in a moment")
            self.taken += size


class Share:
    """What one upload takes of a budget."""

    def __init__(self, budget: Budget) -> None:
        self.budget, self.taken = budget, 0

    def grow(self, size: int) -> None:
        """Raises Problem 429."""
        self.budget.take(size)
        self.taken += size

"""What tests share: the built-in model, photographs, the reference numbers, and how long PyTorch may think."""

from __future__ import annotations

import json
import os
import signal
import sys
from pathlib import Path

import numpy as np
import pytest

from pointcut.cli.main import SPIN

os.environ.setdefault("GOMP_SPINCOUNT", SPIN)  # before PyTorch: servers and jobs compute beside the tests
if "PYTEST_XDIST_WORKER" in os.environ:
    os.environ.setdefault("OMP_NUM_THREADS", "1")  # the workers share the cores already

import torch

signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell's job in the background ignores it, and all it starts

ROOT = Path(__file__).parents[1]
SHARED = Path(os.environ.get("POINTCUT_SHARED", ROOT.parent / "shared"))
PHOTOS = ROOT / "examples" / "photos"


def files_of(folder: Path) -> dict[str, bytes]:
    """All files of a run of `pointcut batch` but its report, which tells times."""
    return {
        path.relative_to(folder).as_posix(): path.read_bytes()
        for path in sorted(folder.rglob("*"))
        if path.is_file() and path.name not in ("report.json", ".pointcut.lock")
    }


ALONE = ("test_page", "test_server_library", "test_server_safety")
"""Files with browsers or deadlines: they run after the others, one test at a time."""

LONGEST = (
    "test_video_goldens",
    "test_batch",
    "test_goldens",
    "test_transformers",
    "test_video",
    "test_examples",
    "test_compat",
)
"""Files that are begun first, so that no worker is left with one of them at the end."""


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if item.path.stem in ALONE:
            item.add_marker(pytest.mark.alone)
    places = {name: place for place, name in enumerate(LONGEST)}
    items.sort(key=lambda item: places.get(item.path.stem, len(places)))


@pytest.fixture(scope="session")
def goldens() -> Path:
    """Folder of what Meta's code computes on reproducible weights. CI has it; elsewhere its tests are skipped."""
    folder = SHARED / "goldens"
    if not folder.is_dir():
        assert not os.environ.get("CI"), f"CI must have {folder}"
        pytest.skip(f"{folder} is not here (set POINTCUT_SHARED)")
    if str(folder) not in sys.path:
        sys.path.insert(0, str(folder))
    return folder


@pytest.fixture(scope="session")
def reproducible(goldens: Path):  # noqa: ARG001  # its folder must be on the path
    """checkpoint name -> its tensors, drawn from generators seeded by their names."""
    from weights import state_dict

    return lambda checkpoint: {name: torch.from_numpy(x) for name, x in state_dict(checkpoint).items()}


@pytest.fixture(scope="session")
def manifest(goldens: Path):
    """checkpoint name -> {tensor name: shape}."""
    return lambda checkpoint: json.loads((goldens / "manifests" / f"{checkpoint}.json").read_text())


@pytest.fixture(scope="session")
def nano():
    import pointcut

    return pointcut.load("nano", device="cpu")


@pytest.fixture(scope="session")
def cat(nano):
    """The cat of the examples, encoded; its face is at (220, 150)."""
    return nano.encode(PHOTOS / "cat.jpg")


@pytest.fixture
def noise() -> np.ndarray:
    """A small picture, 60 high and 80 wide."""
    return np.random.default_rng(0).integers(0, 255, (60, 80, 3), dtype=np.uint8)

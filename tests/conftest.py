"""What tests share: the built-in model, photographs, the reference numbers, and how long PyTorch may think."""

from __future__ import annotations

import json
import os
import signal
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from pointcut.cli.main import SPIN

os.environ.setdefault("GOMP_SPINCOUNT", SPIN)  # before PyTorch: servers and jobs compute beside the tests
if "PYTEST_XDIST_WORKER" in os.environ:
    os.environ.setdefault("OMP_NUM_THREADS", "1")  # the workers share the cores already

import torch
from PIL import Image

from films import write_film
from serving import Served, serving

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


ALONE = (
    "test_page",
    "test_page_places",
    "test_server_access",
    "test_server_fetch",
    "test_server_library",
    "test_server_safety",
)
"""Files with browsers or deadlines: they run after the others, one test at a time."""

LONGEST = (
    "test_video_goldens",
    "test_batch",
    "test_goldens",
    "test_transformers",
    "test_video",
    "test_track",
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


@pytest.fixture(scope="session")
def film(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Thirty frames of a ball that rolls."""
    return write_film(tmp_path_factory.mktemp("film") / "ball.mp4", 30)


@pytest.fixture(scope="session")
def training_sets(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two sets in the layout of the recipe: four labelled pictures, and a texture."""
    root, rng = tmp_path_factory.mktemp("data"), np.random.default_rng(0)
    for i in range(4):
        labels = np.zeros((90, 120), np.uint8)
        labels[10:50, 10 + 5 * i : 70] = 1
        labels[60:80, 60:110] = 2
        labels[:4] = 255
        image = rng.integers(0, 90, (90, 120, 3), dtype=np.uint8) + (labels == 1)[..., None] * np.uint8(120)
        for kind, picture in (("images", image), ("masks", labels)):
            (root / "objects" / kind).mkdir(parents=True, exist_ok=True)
            Image.fromarray(picture).save(root / "objects" / kind / f"{i}.png")
    (root / "textures" / "images").mkdir(parents=True)
    Image.fromarray(rng.integers(0, 255, (64, 64, 3), dtype=np.uint8)).save(root / "textures" / "images" / "a.jpg")
    return root


@pytest.fixture(scope="module")
def served() -> Iterator[Served]:
    """The server as it starts by default, with the built-in model."""
    with serving() as server:
        yield server

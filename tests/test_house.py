"""The house's rules: who may import whom, what a light import loads, how long a file may be."""

from __future__ import annotations

import ast
import json
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import pytest

PACKAGE = Path(__file__).parents[1] / "src" / "pointcut"

LOWEST = "ahead errors files prompts masks rle components scaling images reading draw segments arrange opencv pretrained"

ROWS = [
    set(LOWEST.split()),
    {"nets", "plotting", "export", "detect", "describe", "embed", "index"},
    {"pixels", "weights", "client"},
    {"automatic", "video"},
    {"segment"},
    {"tiles", "likeness"},
    {"pipeline", "library"},
    {"bench", "compat", "count", "evaluate", "server", "batch"},
    {"cli"},
    {"__main__"},
]
"""As in docs/architecture.md: a file may import from rows above its own, and from its own part of the house; the lowest row is
a family whose members may know each other as long as there is no circle."""

PARTS = {part: row for row, parts in enumerate(ROWS) for part in parts}


def modules() -> list[Path]:
    return sorted(PACKAGE.rglob("*.py"))


def part_of(path: Path) -> str:
    return path.relative_to(PACKAGE).parts[0].removesuffix(".py")


def imports(path: Path) -> set[str]:
    """The parts of the package that a file imports, wherever in the file it does."""
    depth = len(path.relative_to(PACKAGE).parts) - 1
    found = set()
    for node in ast.walk(ast.parse(path.read_text())):
        names = []
        if isinstance(node, ast.ImportFrom) and node.level == depth + 1:
            names = [node.module.split(".")[0]] if node.module else [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and node.level == 0 and (node.module or "").startswith("pointcut."):
            names = [node.module.split(".")[1]]
        elif isinstance(node, ast.Import):
            names = [a.name.split(".")[1] for a in node.names if a.name.startswith("pointcut.")]
        found.update(name for name in names if not name.startswith("__version"))
    return found


@pytest.mark.parametrize("path", [p for p in modules() if part_of(p) != "__init__"], ids=lambda p: str(p.relative_to(PACKAGE)))
def test_imports_point_upwards(path: Path) -> None:
    own = part_of(path)
    assert own in PARTS, f"{own} has no row: put it into ROWS and docs/architecture.md"
    for other in imports(path) - {own}:
        above = PARTS[other] < PARTS[own]
        same_family = PARTS[other] == PARTS[own] == 0
        assert above or same_family, f"{path.name} ({own}) must not import {other}"


def test_the_lowest_row_has_no_circle() -> None:
    edges: dict[str, set[str]] = {}
    for path in modules():
        if part_of(path) in ROWS[0]:
            edges.setdefault(part_of(path), set()).update(imports(path) - {part_of(path)})
    done: set[str] = set()
    while len(done) < len(edges):
        free = {part for part, needs in edges.items() if part not in done and needs <= done}
        assert free, f"a circle among {sorted(edges.keys() - done)}"
        done |= free


def test_networks_know_nothing_of_files() -> None:
    for path in (PACKAGE / "nets").glob("*.py"):
        assert imports(path) <= {"nets"}, path.name


HELP = "from typer.testing import CliRunner; import pointcut.cli.main as m; CliRunner().invoke(m.app, {})"


@pytest.mark.parametrize(
    ("code", "allowed"),
    [
        ("import pointcut", set()),
        (HELP.format(["--help"]), set()),
        (HELP.format(["segment", "-h"]), set()),
        (
            "from typer.testing import CliRunner; import pointcut.cli.main as m; CliRunner().invoke(m.app, ['auto', '-h'])",
            set(),
        ),
        (
            "from typer.testing import CliRunner; import pointcut.cli.main as m; CliRunner().invoke(m.app, ['eval', '-h'])",
            set(),
        ),
        ("import pointcut.images, pointcut.segments, pointcut.rle", {"numpy", "PIL"}),
    ],
    ids=["package", "help", "segment-help", "auto-help", "eval-help", "lowest-row"],
)
def test_light_imports(code: str, allowed: set[str]) -> None:
    """Nothing heavy is loaded before it is needed: the set of modules is checked, not the time."""
    heavy = {"torch", "numpy", "PIL", "safetensors", "huggingface_hub", "transformers", "matplotlib", "cv2", "fastapi", "httpx"}
    script = f"{code}\nimport sys, json; print(json.dumps(sorted({heavy!r} & set(sys.modules))))"
    got = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert set(json.loads(got.stdout.splitlines()[-1])) <= allowed


def test_loading_a_model_does_not_load_the_compiler() -> None:
    """PyTorch's compiler takes two seconds to import; reading weights needs none of it."""
    script = "import pointcut, sys; pointcut.load('nano', device='cpu'); print('torch._dynamo' in sys.modules)"
    got = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert got.stdout.strip() == "False"


def test_public_names_exist() -> None:
    import pointcut

    for _ in range(2):  # the second time a submodule of the same name would stand in the way
        for name in pointcut.__all__:
            assert not isinstance(getattr(pointcut, name), ModuleType), name
    with pytest.raises(AttributeError, match="no attribute"):
        _ = pointcut.nonsense


@pytest.mark.parametrize("path", modules(), ids=lambda p: str(p.relative_to(PACKAGE)))
def test_files_stay_short(path: Path) -> None:
    assert len(path.read_text().splitlines()) <= 400

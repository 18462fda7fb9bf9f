"""The notebooks of examples/ run from top to bottom, and what they hold is what they print and show."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import nbformat
import pytest

import vlm
from conftest import ROOT

NOTEBOOKS = sorted((ROOT / "examples").glob("*.ipynb"))
SPEC = importlib.util.spec_from_file_location("notebooks", ROOT / "examples" / "notebooks.py")
assert SPEC is not None
assert SPEC.loader is not None
runner = importlib.util.module_from_spec(SPEC)
SPEC.loader.exec_module(runner)


def code_cells(notebook: nbformat.NotebookNode) -> list[nbformat.NotebookNode]:
    return [cell for cell in notebook.cells if cell.cell_type == "code"]


def kinds(cell: nbformat.NotebookNode) -> list[str]:
    """What a cell prints and shows, without what it says exactly."""
    found = [output.get("name") or "shown" for output in cell.outputs if output.get("name") != "stderr"]
    return list(dict.fromkeys(found))


@pytest.mark.slow
@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_a_notebook(path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    with vlm.running() as fake:
        monkeypatch.setenv("POINTCUT_VLM", fake.address)
        ran = runner.small(runner.executed(path))
    kept = nbformat.read(path, as_version=4)
    nbformat.validate(kept)
    assert [kinds(cell) for cell in code_cells(ran)] == [kinds(cell) for cell in code_cells(kept)], "make notebooks"
    text = "".join(output.get("text", "") for cell in code_cells(ran) for output in cell.outputs)
    if "POINTCUT_VLM" in "".join(cell.source for cell in code_cells(ran)):
        assert "A red cup." in text
    assert path.stat().st_size < 600_000

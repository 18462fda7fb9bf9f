"""What is shown runs: the tutorial script, matplotlib pictures, and the commands of the README."""

from __future__ import annotations

import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import matplotlib as mpl
import pytest
import torch

import pointcut
from pointcut.cli.main import main

from conftest import PHOTOS, ROOT

mpl.use("Agg")

PAGES = (
    "README.md",
    "docs/automatic.md",
    "docs/batch.md",
    "docs/describe.md",
    "docs/detectors.md",
    "docs/inputs.md",
    "docs/guides/choosing.md",
    "docs/guides/prompts.md",
    "docs/guides/refining.md",
    "docs/search.md",
    "docs/tutorial.md",
    "docs/video.md",
)


def tutorial(*arguments: object) -> str:
    command = [sys.executable, ROOT / "examples" / "tutorial.py", *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout


def test_tutorial_with_nano(tmp_path: Path) -> None:
    printed = tutorial("--out", tmp_path)
    assert [line.split(":")[0] for line in printed.splitlines()] == ["1 clicks", "2 clicks", "4 clicks"]
    assert "masks (3, 400, 600) bool" in printed
    assert sorted(p.name for p in tmp_path.iterdir()) == ["tutorial_1.png", "tutorial_2.png", "tutorial_4.png"]


@pytest.mark.slow
def test_tutorial_with_a_checkpoint_file(reproducible, tmp_path: Path) -> None:
    torch.save(reproducible("sam_vit_b_01ec64"), tmp_path / "sam_vit_b_01ec64.pth")
    printed = tutorial("--model-type", "vit_b", "--checkpoint", tmp_path / "sam_vit_b_01ec64.pth", "--out", tmp_path)
    assert "logits (3, 256, 256)" in printed


def test_show(cat: pointcut.EncodedImage, tmp_path: Path) -> None:
    cut = cat.segment(points=[(220, 150), (30, 30)], labels=[1, 0], boxes=(150, 60, 330, 260), multimask=True)
    figure = pointcut.show(cut, title="a cat")
    assert len(figure.axes) == 3
    assert figure.axes[0].get_title() == f"score {cut.scores[0]:.3f}"
    figure.savefig(tmp_path / "show.png")
    from matplotlib import pyplot as plt

    _, axis = plt.subplots()
    pointcut.show_mask(cut.masks[0], axis, random_color=True)
    assert len(axis.images) == 1
    plt.close("all")


def blocks(page: str, kind: str) -> list[str]:
    return re.findall(rf"```{kind}\n(.*?)```", (ROOT / page).read_text(), re.DOTALL)


def shown_commands() -> list[str]:
    lines = [line for page in PAGES for block in blocks(page, "sh") for line in block.splitlines()]
    return [
        line for line in lines if line.startswith("pointcut ") and not re.search("sam2.1|serve", line)
    ]  # those fetch weights or stay


@pytest.fixture
def clone(tmp_path: Path) -> Path:
    """A folder like the project's, with the photographs where the README says: results must not land among the real ones."""
    shutil.copytree(PHOTOS.parent, tmp_path / "examples")
    return tmp_path


@pytest.mark.slow
@pytest.mark.parametrize("command", sorted(set(shown_commands())))
def test_shown_commands(command: str, clone: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """In this process: to begin one takes longer than most of them do."""
    monkeypatch.chdir(clone)
    monkeypatch.setattr(sys, "argv", shlex.split(command))
    with pytest.raises(SystemExit) as left:
        main()
    assert not left.value.code


@pytest.mark.parametrize("code", [code for page in PAGES for code in blocks(page, "python")])
def test_shown_code(code: str, clone: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(clone)
    shown = ModuleType("shown")
    monkeypatch.setitem(sys.modules, "shown", shown)  # dataclasses look their module up
    exec(code, vars(shown))


def test_readme_has_commands_code_and_pictures() -> None:
    text = (ROOT / "README.md").read_text()
    assert len(shown_commands()) >= 6
    assert blocks("README.md", "python")
    pictures = re.findall(r"!\[[^\]]*\]\(([^)]+)\)", text)
    assert pictures
    for picture in pictures:
        assert (ROOT / picture).is_file(), picture

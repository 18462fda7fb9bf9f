"""The docs as a site: built without a warning, and what follows from the code is what the code gives."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import typer

from pointcut.cli.main import app

from conftest import ROOT

MKDOCS = [sys.executable, "-m", "mkdocs", "build", "--strict"]
ENVIRONMENT = os.environ | {"NO_MKDOCS_2_WARNING": "1"}


def build(folder: Path, site: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run([*MKDOCS, "-d", str(site)], cwd=folder, env=ENVIRONMENT, capture_output=True, text=True, check=False)


def test_the_site_builds_without_a_warning(tmp_path: Path) -> None:
    built = build(ROOT, tmp_path)
    assert built.returncode == 0, built.stderr
    api = (tmp_path / "reference" / "api" / "index.html").read_text()
    for name in ("pointcut.Segmenter", "segment_everything", "boxes_xyxy", "Encodes a picture"):
        assert name in api
    assert (tmp_path / "security" / "index.html").is_file()
    assert not list(tmp_path.rglob("*.py"))


LINKS = {"[x](nowhere.md)": "nowhere.md", "[x](formats.md#nowhere)": "#nowhere", "![x](pictures/nowhere.jpg)": "nowhere.jpg"}


@pytest.mark.parametrize("wrong", [LINKS, {"::: pointcut.nothing": "pointcut.nothing"}], ids=["links", "names"])
def test_what_leads_nowhere_is_a_warning(wrong: dict[str, str], tmp_path: Path) -> None:
    for name in ("docs", "src"):
        shutil.copytree(ROOT / name, tmp_path / name, ignore=shutil.ignore_patterns("*.safetensors", "__pycache__"))
    for name in ("mkdocs.yml", "SECURITY.md", "CHANGELOG.md", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, tmp_path)
    for name in ("examples", "tests", "training", "benchmarks"):
        (tmp_path / name).symlink_to(ROOT / name)
    page = tmp_path / "docs" / "concepts.md"
    page.write_text("\n\n".join([page.read_text(), *wrong]))
    built = build(tmp_path, tmp_path / "site")
    assert built.returncode != 0
    assert all(said in built.stderr for said in wrong.values()), built.stderr


def test_the_reference_is_what_the_code_gives() -> None:
    command = [sys.executable, str(ROOT / "docs" / "_tools" / "reference.py"), "--check"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


def options(group: object, name: str) -> list[tuple[str, str, str]]:
    """(verb, option or argument, help) of every verb."""
    found = []
    for verb, command in group.commands.items():  # type: ignore[attr-defined]
        if hasattr(command, "commands"):
            found += options(command, f"{name} {verb}")
        else:
            assert command.help, f"{name} {verb}"
            found += [(f"{name} {verb}", one.opts[-1], getattr(one, "help", None) or "") for one in command.params]
    return found


def test_every_option_says_what_it_does() -> None:
    silent = [f"{verb} {option}" for verb, option, told in options(typer.main.get_command(app), "pointcut") if not told]
    assert silent == []


def test_every_verb_is_in_a_guide() -> None:
    """Not only in the generated reference."""
    guides = [path for path in (ROOT / "docs").rglob("*.md") if path.parent.name != "reference"]
    text = "\n".join(path.read_text() for path in [ROOT / "README.md", *guides])
    verbs = {verb for verb, _, _ in options(typer.main.get_command(app), "pointcut")}
    assert [verb for verb in sorted(verbs) if verb not in text] == []

"""What is released: archives that hold what they should, versions that agree, extras that are there."""

from __future__ import annotations

import importlib
import os
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

from conftest import ROOT

MODULES = {
    "opencv-python-headless": "cv2",
    "pillow-heif": "pillow_heif",
    "prometheus-client": "prometheus_client",
    "python-multipart": "python_multipart",
}
"""Where a package's module is not called as the package."""

PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
EXTRAS = {name: found for name, found in PROJECT["optional-dependencies"].items() if name != "dev"}


@pytest.mark.parametrize("extra", EXTRAS)
def test_an_extra_imports(extra: str) -> None:
    for requirement in EXTRAS[extra]:
        name = re.split(r"[\[<>=]", requirement)[0]
        importlib.import_module(MODULES.get(name, name))
    assert f"| `{extra}` |" in (ROOT / "docs" / "dependencies.md").read_text()


def test_every_extra_is_in_dev() -> None:
    """So CI installs and uses each of them."""
    first = next(one for one in PROJECT["optional-dependencies"]["dev"] if one.startswith("pointcut["))
    assert set(first.removeprefix("pointcut[").rstrip("]").split(",")) == set(EXTRAS)


def test_versions_must_agree(tmp_path: Path) -> None:
    import dist

    def written(changelog: str, cited: str) -> None:
        (tmp_path / "CHANGELOG.md").write_text(f"# Changelog\n\n## {changelog}\n")
        (tmp_path / "CITATION.cff").write_text(f"version: {cited}\n")

    written("1.2.0", "1.2.0")
    dist.check_version("1.2.0", ["v1.2.0"], tmp_path)
    for changelog, cited, tags, says in (
        ("1.1.0", "1.2.0", [], "CHANGELOG.md begins with 1.1.0"),
        ("1.2.0", "1.1.0", [], "CITATION.cff says 1.1.0"),
        ("1.2.0", "1.2.0", ["v1.3.0"], "tagged v1.3.0"),
        ("1.2.0 (unreleased)", "1.2.0", ["v1.2.0"], "calls it unreleased"),
    ):
        written(changelog, cited)
        with pytest.raises(SystemExit, match=re.escape(says)):
            dist.check_version("1.2.0", tags, tmp_path)


@pytest.mark.slow
@pytest.mark.skipif(not os.environ.get("CI"), reason="takes a minute and the network; CI does it, or `make dist`")
def test_the_wheel_works_for_a_stranger() -> None:
    done = subprocess.run([sys.executable, str(ROOT / "tools" / "dist.py")], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.endswith("good\n")

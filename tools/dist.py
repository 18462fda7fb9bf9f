"""Builds what is released, looks at it, and tries the wheel as a stranger would.

python tools/dist.py [--skip-install]        # `make dist`

Fails where version, changelog, citation and tag disagree; where a file is missing, superfluous or too large; where the wheel,
alone in a fresh environment and called from another folder, does not answer `--help`, does not cut, or loads too much.
"""

from __future__ import annotations

import argparse
import re
import subprocess
import sys
import tarfile
import tempfile
import venv
import zipfile
from pathlib import Path

from pointcut.weights.specs import BUILT_IN

ROOT = Path(__file__).parents[1]
DIST = ROOT / "dist"
MOST = {"wheel": 16_000_000, "sdist": 32_000_000}
"""Bytes. The built-in model is 12 million of them."""

NEEDED = (
    f"pointcut/weights/{BUILT_IN.name}",
    "pointcut/server/assets/index.html",
    "pointcut/py.typed",
    "licenses/LICENSE",
    "licenses/NOTICE",
)
UNWANTED = re.compile(r"(^|/)(tests|shared|\.git|\.venv|__pycache__|site|out|runs)/|\.pt$|\.pth$|\.pyc$")

TRIAL = """
import sys
import pointcut
assert "torch" not in sys.modules, "importing pointcut loads torch"
from importlib.metadata import version
assert version("pointcut") == pointcut.__version__
cut = pointcut.load("nano").encode(sys.argv[1]).segment(points=[(225, 110)])
assert cut.best.areas[0] > 1000
print("cut", int(cut.best.areas[0]), "pixels")
"""


def fail(text: str) -> None:
    raise SystemExit(f"dist: {text}")


def version() -> str:
    found = re.search(r'__version__ = "(.+)"', (ROOT / "src" / "pointcut" / "__init__.py").read_text())
    assert found is not None
    return found[1]


def check_version(number: str, tags: list[str], root: Path = ROOT) -> None:
    """tags: of the commit that is built. Fails where what tells the version does not tell the same."""
    heading = re.search(r"^## (\S+)( \(unreleased\))?", (root / "CHANGELOG.md").read_text(), re.MULTILINE)
    if heading is None or heading[1] != number:
        fail(f"the version is {number}, and CHANGELOG.md begins with {heading and heading[1]}")
    cited = re.search(r"^version: (\S+)", (root / "CITATION.cff").read_text(), re.MULTILINE)
    if cited is None or cited[1] != number:
        fail(f"the version is {number}, and CITATION.cff says {cited and cited[1]}")
    released = [tag for tag in tags if re.match(r"v?\d", tag)]
    if released and released != [f"v{number}"]:
        fail(f"the version is {number}, and this commit is tagged {', '.join(released)}")
    if released and heading is not None and heading[2]:
        fail(f"this commit is tagged {released[0]}, and CHANGELOG.md calls it unreleased")


def contents(path: Path) -> dict[str, int]:
    """Files of an archive and their bytes."""
    if path.suffix == ".whl":
        return {one.filename: one.file_size for one in zipfile.ZipFile(path).infolist()}
    with tarfile.open(path) as archive:
        return {one.name: one.size for one in archive if one.isfile()}


def check_contents(path: Path) -> None:
    kind = "wheel" if path.suffix == ".whl" else "sdist"
    held, size = contents(path), path.stat().st_size
    largest = ", ".join(f"{name.rpartition('/')[2]} {held[name] / 1e6:.1f}" for name in sorted(held, key=held.__getitem__)[-3:])
    print(f"{path.name}: {size / 1e6:.1f} MB, {len(held)} files; the largest (MB): {largest}")
    if size > MOST[kind]:
        fail(f"{path.name} is larger than {MOST[kind] / 1e6:.0f} MB")
    missing = [name for name in NEEDED if not any(one.endswith(name.removeprefix("licenses/")) for one in held)]
    if missing:
        fail(f"{path.name} lacks {', '.join(missing)}")
    unwanted = [name for name in held if UNWANTED.search(name) and not (kind == "sdist" and "/tests/" in name)]
    if unwanted:
        fail(f"{path.name} holds {', '.join(unwanted[:5])}")


def try_wheel(wheel: Path) -> None:
    """In an environment of its own, without extras, from another folder."""
    with tempfile.TemporaryDirectory(prefix="pointcut-dist-") as scratch:
        folder = Path(scratch)
        venv.create(folder / "env", with_pip=True)
        python = folder / "env" / "bin" / "python"
        install = [python, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", "-c", ROOT / "constraints.txt"]
        subprocess.run([*install, wheel], check=True)
        photo = ROOT / "examples" / "photos" / "astronaut.jpg"
        command = folder / "env" / "bin" / "pointcut"
        for arguments in (["--help"], ["--version"], ["segment", photo, "--point", "225,110", "--out", folder / "out"]):
            subprocess.run([command, *arguments], cwd=folder, check=True, stdout=subprocess.DEVNULL)
        subprocess.run([python, "-c", TRIAL, photo], cwd=folder, check=True)
        if not (folder / "out" / "astronaut.cutout.png").is_file():
            fail("the wheel's command wrote no cut-out")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--skip-install", action="store_true", help="look at the archives, and do not try the wheel")
    asked = parser.parse_args()
    tags = subprocess.run(["git", "tag", "--points-at", "HEAD"], cwd=ROOT, capture_output=True, text=True, check=False)
    check_version(version(), tags.stdout.split())
    for old in DIST.glob("pointcut-*"):
        old.unlink()
    subprocess.run([sys.executable, "-m", "build", "--outdir", DIST, ROOT], check=True, stdout=subprocess.DEVNULL)
    archives = sorted(DIST.glob("pointcut-*"))
    for path in archives:
        check_contents(path)
    if not asked.skip_install:
        try_wheel(next(path for path in archives if path.suffix == ".whl"))
    print("good")


if __name__ == "__main__":
    main()

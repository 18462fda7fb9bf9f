"""YOLO's labels, as Ultralytics, LabelImg, CVAT, Roboflow and Label Studio write them: a text file a picture, and names beside.

Source of the format: https://docs.ultralytics.com/datasets/detect/ and https://docs.ultralytics.com/datasets/segment/
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import yaml

from ..errors import InputError
from .labelled import Box, Labelled

LISTS = frozenset({"classes", "train", "val", "valid", "test"})
"""Text files that lie among labels and are none."""

ABOVE = 2
"""Folders above the labels in which the classes' names may lie: `data.yaml` beside `labels/train/`."""


def yolo(folder: Path) -> dict[str, Labelled]:
    """By picture, in shares of its size. A line is `class cx cy w h`, with a confidence or without, or `class x y x y ...`, an
    outline, of which the box is taken. Raises InputError."""
    names = _names(folder)
    found: dict[str, Labelled] = {}
    for path in _label_files(folder):
        its = Labelled(shares=True)
        try:
            for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), start=1):
                if line.strip():
                    kind, box = _read(line, f"{path}, line {number}")
                    its.add(box, names.get(kind, kind))
        except (OSError, UnicodeDecodeError) as error:
            raise InputError(f"{path}: cannot be read ({error})") from None
        if its.boxes:
            found[path.relative_to(folder).as_posix()] = its
    if not found:
        raise InputError(f"{folder}: holds no YOLO labels (class cx cy w h in .txt files)")
    return found


def _label_files(folder: Path) -> Iterator[Path]:
    """Those below folders called `labels`, if there are such; else all that may be some."""
    texts = sorted(path for path in folder.rglob("*.txt") if not path.name.startswith("."))
    labelled = [path for path in texts if "labels" in path.relative_to(folder).parts[:-1]]
    for path in labelled or texts:
        if path.stem not in LISTS and not path.stem.lower().startswith("readme"):
            yield path


def _read(line: str, where: str) -> tuple[str, Box]:
    """The class, and x0, y0, x1, y1."""
    kind, *told = line.split()
    try:
        shares = [float(value) for value in told]
    except ValueError:
        shares = []
    # NaN and what is no share at all is refused; an annotator's box may hang over the edge a little.
    if not all(-0.1 <= share <= 1.1 for share in shares) or len(shares) < 4 or (len(shares) > 5 and len(shares) % 2):
        raise InputError(f"{where}: expected class cx cy w h in shares of the picture, 0 to 1; got {line[:80]!r}")
    if len(shares) > 5:
        xs, ys = shares[::2], shares[1::2]
        return kind, (min(xs), min(ys), max(xs), max(ys))
    x, y, w, h = shares[:4]
    return kind, (x - w / 2, y - h / 2, x + w / 2, y + h / 2)


def _names(folder: Path) -> dict[str, str]:
    """What the numbers of classes mean, from the nearest file that says it. Raises InputError."""
    here = folder.resolve()
    for place in (here, *list(here.parents)[:ABOVE]):
        for name in ("classes.txt", "obj.names", "data.yaml", "dataset.yaml"):
            path = place / name
            if path.is_file():
                try:
                    text = path.read_text(encoding="utf-8")
                    said = yaml.safe_load(text)["names"] if path.suffix == ".yaml" else text.splitlines()
                    pairs = said.items() if isinstance(said, dict) else enumerate(said)
                    return {str(number): str(word).strip() for number, word in pairs}
                except (OSError, ValueError, KeyError, TypeError, yaml.YAMLError) as error:
                    raise InputError(f"{path}: names of classes cannot be read ({type(error).__name__}: {error})") from None
    return {}

"""Pictures into an index and questions to it, as the command asks them."""

from __future__ import annotations

import io
import json
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from typer.testing import CliRunner

import pointcut
from pointcut.cli.main import app
from pointcut.index import Where, open_store
from pointcut.library import Library, contact_sheet, thumbnail
from pointcut.likeness import colours
from pointcut.segment.features import feature_width, pooled_features

from conftest import PHOTOS


def call(*arguments: object, code: int = 0) -> str:
    result = CliRunner().invoke(app, ["index", *map(str, arguments)])
    assert result.exit_code == code, (result.exit_code, result.output, result.exception)
    return result.stdout


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two photographs, one of them again larger, one broken, and boxes of what is on them."""
    folder = tmp_path_factory.mktemp("photos")
    shutil.copy(PHOTOS / "cat.jpg", folder / "cat.jpg")
    Image.open(PHOTOS / "cat.jpg").resize((600, 400)).save(folder / "cat-large.png")
    shutil.copy(PHOTOS / "rocket.jpg", folder / "rocket.jpg")
    (folder / "zz.jpg").write_bytes(b"no picture")
    boxes = [
        {"image": "cat.jpg", "boxes": [[30, 0, 370, 299]], "labels": ["cat"]},
        {"image": "cat-large.png", "boxes": [[40, 0, 492, 398]], "labels": ["cat"]},
        {"image": "rocket.jpg", "boxes": [[300, 60, 345, 365]], "labels": ["rocket"]},
        {"image": "zz.jpg", "boxes": [[1, 1, 2, 2]]},
    ]
    (folder / "boxes.json").write_text(json.dumps(boxes))
    return folder


@pytest.mark.parametrize("kind", ["exact", "lance"])
def test_add_and_search(folder: Path, tmp_path: Path, kind: str) -> None:
    index = ["--index", tmp_path / "index"]
    options = [folder, "--boxes", folder / "boxes.json", *index, "--json"]
    told = json.loads(call("add", *options, "--store", kind, code=3))
    assert (told["pictures"], told["known"], told["segments"]) == (3, 0, 3)
    assert [one["name"] for one in told["failed"]] == ["zz.jpg"]
    assert told["index"]["kind"] == kind
    assert json.loads(call("add", *options, code=3))["known"] == 3
    asked = [folder / "cat.jpg", "--box", "30,0,370,299"]
    hits = json.loads(call("search", *asked, *index, "--json", "--out", tmp_path / "s.png"))
    assert [Path(hit["image"]).name for hit in hits] == ["cat.jpg", "cat-large.png", "rocket.jpg"]
    assert hits[0]["similarity"] == pytest.approx(1, abs=1e-4)
    assert hits[1]["similarity"] > 0.95 > hits[2]["similarity"]
    assert Image.open(tmp_path / "s.png").width > 300
    others = json.loads(call("search", "--id", hits[0]["id"], "--others", *index, "--json"))
    assert [hit["id"] for hit in others] == [hit["id"] for hit in hits[1:]]
    whole = json.loads(call("search", folder / "cat.jpg", *index, "--json"))
    assert [hit["label"] for hit in whole] == ["cat", "cat", "rocket"]
    words = json.loads(call("search", "--words", "ROCK", *index, "--json"))
    assert [hit["label"] for hit in words] == ["rocket"]
    assert json.loads(call("search", folder / "cat.jpg", "--label", "rocket", "--skip", 1, *index, "--json")) == []
    listed = json.loads(call("list", *index, "--json", "--min-area", 1))
    assert {one["label"] for one in listed} == {"cat", "rocket"}
    assert all("thumbnail" not in one for one in listed)
    assert "cat-large.png" in call("list", *index)
    call("remove", *index, code=2)
    call("remove", hits[0]["id"], *index)
    call("remove", "--label", "rocket", *index)
    call("compact", *index)
    assert json.loads(call("stats", *index, "--json"))["segments"] == 1
    call("remove", "--everything", *index)
    assert call("search", "--words", "cat", *index) == ""


def test_wrong_calls(tmp_path: Path) -> None:
    call("search", "--index", tmp_path / "none", "--words", "x", code=1)
    call("search", "--index", tmp_path, code=2)
    call("search", "--point", "3,3", "--index", tmp_path, code=2)
    call("search", PHOTOS / "cat.jpg", "--id", "x", code=2)
    call("stats", "--index", tmp_path / "none", code=1)


def test_everything_in_a_picture(nano: pointcut.Segmenter, tmp_path: Path) -> None:
    library = Library(tmp_path / "index", nano, "exact")
    data = (PHOTOS / "rocket.jpg").read_bytes()
    count = library.add("rocket.jpg", data)
    assert count is not None
    assert count >= 3
    with pytest.raises(pointcut.InputError, match="holds no segment"):
        library.store.vector_of("nobody")
    assert library.flush() == count
    assert library.flush() == 0
    assert Library(tmp_path / "index", nano).add("again.jpg", data) is None
    entry = library.store.entries(Where(), 1)[0]
    assert (entry.height, entry.width, entry.image) == (*nano.encode(data).size, "rocket.jpg")
    other = pointcut.load("nano", device="cpu", side=256)
    with pytest.raises(pointcut.InputError, match="cannot be compared"):
        Library(tmp_path / "index", other).search(np.zeros(9, np.float32))
    assert len(open_store(tmp_path / "index")) == count


MANY_MASKS = """
import resource
import numpy as np
import pointcut
from pointcut import rle
from pointcut.segment.features import pooled_features

size = 3000, 4000
image, square = np.zeros((*size, 3), np.uint8), rle.encode(np.ones((300, 500), bool))
stored = tuple(rle.placed(square, 40 * i, 30 * i, size) for i in range(60))
ones = np.ones(60, np.float32)
cut = pointcut.Segments(image, stored, ones, ones, np.zeros((60, 1, 1), np.float32), np.arange(60), ())
photo = pointcut.load("nano", device="cpu").encode(image)
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
assert len(pooled_features(photo, cut)) == 60
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before)
"""


def test_vectors_of_many_masks_of_a_large_picture() -> None:
    """Each is looked at within its box, and then forgotten: as floats of the picture's size sixty are 2.9 GB."""
    ran = subprocess.run([sys.executable, "-c", MANY_MASKS], capture_output=True, text=True, check=True)
    assert int(ran.stdout) < 50_000  # kilobytes


def test_vectors_and_thumbnails(cat: pointcut.EncodedImage, nano: pointcut.Segmenter, tmp_path: Path) -> None:
    cut = cat.segment(boxes=[(30, 0, 370, 299), (150, 100, 250, 200)]).best
    library = Library(tmp_path, nano)
    found = library.vectors(cat, cut)
    assert found.shape == (2, feature_width(cat) + 64)
    np.testing.assert_allclose(np.linalg.norm(found, axis=1), 1, rtol=1e-5)
    features = found[:, :-64] / np.linalg.norm(found[:, :-64], axis=1, keepdims=True)
    np.testing.assert_allclose(features, pooled_features(cat, cut, centred=False), atol=1e-5)
    assert np.abs(features - pooled_features(cat, cut)).max() > 0.01, "within one picture its own mean is taken away"
    reds = np.zeros((2, 8, 8, 3), np.uint8)
    reds[..., 0] = 255
    reds[1, :4] = 255
    both = colours(pointcut.Segments.of_masks(reds[1], np.ones((1, 8, 8), bool)))[0]
    np.testing.assert_allclose(both[[48, 63]], 0.5**0.5, rtol=1e-6)
    assert colours(pointcut.Segments.of_masks(reds[0], np.ones((1, 8, 8), bool)))[0, 48] == 1
    assert not colours(pointcut.Segments.of_masks(reds[0], np.zeros((1, 8, 8), bool))).any()
    assert np.linalg.norm(library.whole(cat)) == pytest.approx(1, rel=1e-5)
    small = Image.open(io.BytesIO(thumbnail(cut, 1)))
    assert small.format == "JPEG"
    assert max(small.size) <= 160
    from pointcut.index import Hit
    from pointcut.library import entries_of

    hits = [Hit(entry, 0.5) for entry in entries_of("cat.jpg", "0", cut, ("a", "b"))]
    assert [hit.entry.label for hit in hits] == ["a", "b"]
    assert contact_sheet(hits).width > 160

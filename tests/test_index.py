"""Stores of segments: both keep the same promises, and LanceDB is judged by the exact one."""

from __future__ import annotations

import json
import multiprocessing
import os
import random
import select
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import pointcut
from pointcut.index import About, Entry, Store, Where, entry_id, open_store
from pointcut.index import lance as lance_module

KINDS = ("exact", "lance")
D = 8


def entry(i: int, **more: object) -> Entry:
    words = {
        "label": "cat" if i % 2 else "d'og",
        "description": 'A "nice" Thing' if i % 3 else "",
        "thumbnail": bytes([255, 0, i % 256]),
    }
    day = f"2026-11-{1 + i % 28:02d}T00:00:00+00:00"
    place = {"image": f"a/{i % 5}.jpg", "sha256": str(i % 7), "height": 10, "width": 10, "counts": str(i)}
    box = {"x0": 0.0, "y0": 1.0, "x1": float(i), "y1": 5.0}
    return Entry(
        entry_id(str(i % 7), str(i)),
        **place | box | {"area": i * 3, "score": 0.5, "stability": 0.5, "added": day} | words | more,
    )  # type: ignore[arg-type]


def vectors(count: int, seed: int = 0, dimension: int = D) -> np.ndarray:
    found = np.random.default_rng(seed).standard_normal((count, dimension)).astype(np.float32)
    return found / np.linalg.norm(found, axis=1, keepdims=True)


@pytest.fixture(params=KINDS)
def store(request: pytest.FixtureRequest, tmp_path: Path) -> Store:
    store = open_store(tmp_path / "index", "nano/1", D, request.param)
    assert store.add([entry(i) for i in range(50)], vectors(50)) == 50
    return store


def test_adding_twice_adds_once(store: Store) -> None:
    entries, own = [entry(i) for i in range(49, 53)], vectors(4, 1)
    assert store.add([*entries, entries[0]], np.concatenate([own, own[:1]])) == 3
    assert store.add(entries, own) == 0
    assert len(store) == 53
    assert store.search(vectors(50)[49], 1)[0].entry == entry(49), "what was there stays as it was"
    assert store.add([], vectors(0)) == 0
    assert store.stats() == {
        "place": store.place,
        "kind": store.kind,
        "encoder": "nano/1",
        "dimension": D,
        "segments": 53,
        "pictures": 7,
    }
    with pytest.raises(pointcut.InputError, match="holds vectors of 8 numbers"):
        store.add([entry(99)], vectors(1, dimension=9))


WHERES = [
    Where(),
    Where(min_area=30, max_area=90),
    Where(label="d'og"),
    Where(path="a/1"),
    Where(words="NICE"),
    Where(words="d'o"),
    Where(words="' OR '1'='1"),
    Where(since="2026-11-05", until="2026-11-07"),
    Where(ids=(entry(3).id, entry(4).id, "nobody")),
    Where(not_sha256="3"),
    Where(label="cat", min_area=20, path="a/", not_sha256="1"),
]


@pytest.mark.parametrize("where", WHERES, ids=[str(i) for i in range(len(WHERES))])
def test_conditions(store: Store, where: Where) -> None:
    own, every = vectors(50), [entry(i) for i in range(50)]
    meant = [i for i in range(50) if where.admits(every[i])]
    expected = sorted((every[i] for i in meant), key=lambda one: (one.image, -one.area, one.id))
    assert store.entries(where) == expected
    assert store.entries(where, 3, 1) == expected[1:4]
    order = sorted(meant, key=lambda i: -float(own[i] @ own[20]))
    hits = store.search(own[20], 4, where, 1)
    assert [hit.entry.id for hit in hits] == [every[i].id for i in order[1:5]]
    np.testing.assert_allclose([hit.similarity for hit in hits], [own[i] @ own[20] for i in order[1:5]], atol=1e-5)
    assert store.remove(where) == len(meant)
    assert len(store) == 50 - len(meant)
    store.compact()
    left = [one.id for one in open_store(store.place).entries()]
    assert sorted(left) == sorted(one.id for one in every if not where.admits(one))


def test_descriptions_are_kept_and_found(store: Store) -> None:
    store.describe({entry(0).id: "a Zebra\n<b>", "nobody": "nothing"})
    (found,) = store.entries(Where(words="zebra"))
    assert (found.id, found.description) == (entry(0).id, "a Zebra\n<b>")
    store.compact()
    assert open_store(store.place).entries(Where(words="zebra"))[0].description == "a Zebra\n<b>"
    assert len(store) == 50
    assert store.search(vectors(50)[0], 1)[0].entry.id == entry(0).id, "its vector is as it was"


def test_another_model_is_refused(store: Store) -> None:
    with pytest.raises(pointcut.InputError, match="cannot be compared with those of nano/2"):
        open_store(store.place, "nano/2", D)
    other = "exact" if store.kind == "lance" else "lance"
    with pytest.raises(pointcut.InputError, match=f"is of kind {store.kind}"):
        open_store(store.place, "nano/1", D, other)
    with pytest.raises(pointcut.InputError, match="index is lance or exact"):
        open_store(store.place, "nano/1", D, "faiss")


def test_nothing_there_and_broken_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(pointcut.InputError, match="there is no index"):
        open_store(tmp_path)
    (tmp_path / "a").mkdir()
    for text in ("{", '{"version": 99}'):
        (tmp_path / "a" / "pointcut.index.json").write_text(text)
        with pytest.raises(pointcut.InputError):
            open_store(tmp_path / "a")
    (tmp_path / "b" / "segments.lance").mkdir(parents=True)
    with pytest.raises(pointcut.InputError, match="is broken"):
        open_store(tmp_path / "b")
    (tmp_path / "file").write_text("")
    with pytest.raises(pointcut.OutputError):
        open_store(tmp_path / "file" / "x", "nano/1", D, "exact")
    monkeypatch.setitem(sys.modules, "lancedb", None)
    with pytest.raises(pointcut.MissingExtra, match=r"pip install 'pointcut\[search\]'"):
        open_store(tmp_path / "c", "nano/1", D, "lance")
    assert open_store(tmp_path / "c", "nano/1", D).kind == "exact", "without the extra a new index is of plain files"


def test_a_full_disk_is_said_once_and_nothing_is_lost(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store = open_store(tmp_path / "index", "nano/1", D, "exact")
    store.add([entry(i) for i in range(5)], vectors(5))

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patched:
        patched.setattr(os, "replace", full)
        with pytest.raises(pointcut.OutputError) as told:
            store.compact()
    assert str(told.value).endswith("1.f32: cannot be written (No space left on device)")
    assert len(open_store(tmp_path / "index")) == len(store) == 5
    store.compact()
    assert store.search(vectors(5)[3], 1)[0].entry == entry(3)


@settings(max_examples=25, deadline=None)
@given(st.lists(st.tuples(st.sampled_from(["add", "remove", "compact"]), st.integers(0, 12)), max_size=12))
def test_any_history_ends_alike(tmp_path_factory: pytest.TempPathFactory, history: list[tuple[str, int]]) -> None:
    """The exact store against a dict."""
    store = open_store(tmp_path_factory.mktemp("i"), "nano/1", D, "exact")
    own, model = vectors(13), dict[str, Entry]()
    for what, i in history:
        if what == "add":
            added = [j for j in (i, (i + 1) % 13) if entry(j).id not in model]
            assert store.add([entry(i), entry((i + 1) % 13)], own[[i, (i + 1) % 13]]) == len(added)
            model |= {entry(j).id: entry(j) for j in added}
        elif what == "remove":
            assert store.remove(Where(ids=(entry(i).id,))) == (model.pop(entry(i).id, None) is not None)
        else:
            store.compact()
    again = open_store(store.place)
    assert {one.id: one for one in again.entries()} == model
    for hit in again.search(own[0], 20):
        i = int(hit.entry.counts)
        assert hit.similarity == pytest.approx(float(own[i] @ own[0]), abs=1e-6)


ADDING = """
import sys
sys.path.insert(0, sys.argv[4])
from test_index import entry, vectors
from pointcut.index import open_store
store = open_store(sys.argv[1], "nano/1", 8, sys.argv[2])
print("ready", flush=True)
sys.stdin.readline()
for start in range(0, 2000, 20):
    numbers = range(start, start + 20)
    store.add([entry(i) for i in numbers], vectors(2000)[list(numbers)])
    if start % 400 == 380 and sys.argv[3] == "compact":
        store.compact()
"""


@pytest.mark.slow
@pytest.mark.parametrize("kind", KINDS)
def test_killed_while_adding(kind: str, tmp_path: Path) -> None:
    """Before or after a batch, never within: six kills, each at another moment, then to the end."""
    rng, place = random.Random(0), tmp_path / "index"
    open_store(place, "nano/1", D, kind)
    command = [sys.executable, "-c", ADDING, str(place), kind, "compact", str(Path(__file__).parent)]
    for _ in range(6):
        process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        assert process.stdout is not None
        assert process.stdin is not None
        assert process.stdout.readline() == "ready\n"
        process.stdin.write("go\n")
        process.stdin.flush()
        select.select([process.stdout], [], [], rng.uniform(0.05, 0.6))
        os.kill(process.pid, signal.SIGKILL)
        process.wait()
        store = open_store(place)
        there = [int(one.counts) for one in store.entries()]
        assert len(there) % 20 == 0
        assert sorted(there) == list(range(len(there))), "whole batches, in order"
        if there:
            own = vectors(2000)
            assert [int(hit.entry.counts) for hit in store.search(own[there[-1]], 1)] == [there[-1]]
    store = open_store(place)
    store.add([entry(i) for i in range(2000)], vectors(2000))
    assert len(store) == 2000


def add_some(place: str, kind: str, first: int) -> None:
    store = open_store(place, "nano/1", D, kind)
    for start in range(first, first + 60, 20):
        store.add([entry(i) for i in range(start, start + 20)], vectors(200)[start : start + 20])


@pytest.mark.parametrize("kind", KINDS)
def test_writers_take_turns(kind: str, tmp_path: Path) -> None:
    place = str(tmp_path / "index")
    context = multiprocessing.get_context("spawn")
    writers = [context.Process(target=add_some, args=(place, kind, first)) for first in (0, 40, 80)]  # they overlap
    for writer in writers:
        writer.start()
    for writer in writers:
        writer.join()
        assert writer.exitcode == 0
    assert sorted(int(one.counts) for one in open_store(place).entries()) == list(range(140))


def test_the_approximate_search_finds_most(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """3,000 vectors about 100 centres, as segments of things are."""
    monkeypatch.setattr(lance_module, "ENOUGH", 2000)
    rng = np.random.default_rng(0)
    own = vectors(100, 3, 32)[rng.integers(0, 100, 3000)] + 0.1 * vectors(3000, 4, 32)
    own = (own / np.linalg.norm(own, axis=1, keepdims=True)).astype(np.float32)
    store = open_store(tmp_path, "nano/1", 32, "lance")
    store.add([entry(i) for i in range(3000)], own)
    store.compact()
    found = 0
    for i in range(0, 3000, 100):
        exact = [hit.entry.id for hit in store.search(own[i], 10, exact=True)]
        truth = np.argsort(-(own @ own[i]), kind="stable")[:10]
        assert set(exact) == {entry(int(j)).id for j in truth}
        found += len(set(exact) & {hit.entry.id for hit in store.search(own[i], 10)})
    assert found >= 0.9 * 300


def test_about_is_plain_json(tmp_path: Path) -> None:
    open_store(tmp_path, "nano/1", D, "exact")
    assert json.loads((tmp_path / "pointcut.index.json").read_text()) == {
        "version": 1,
        "generation": 0,
        "encoder": "nano/1",
        "dimension": D,
    }
    assert open_store(tmp_path).about == About("nano/1", D)

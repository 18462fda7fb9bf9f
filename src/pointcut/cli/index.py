"""`pointcut index`: a library of segments, to be searched by a click, a picture, or words."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from ..errors import InputError
from . import parse
from .batch import gathered, listed
from .options import DetectorName, DeviceName, ModelName, PrecisionName, Text, WordsModel, detector_name
from .output import SOME_FAILED, emit, fail, say

if TYPE_CHECKING:
    from collections.abc import Sequence

    import numpy as np

    from ..index import Hit, Store, Where
    from ..library import Cut, Library
    from ..segment.segmenter import Segmenter

app = typer.Typer(help="A library of segments, searched by a click, a picture, or words.", no_args_is_help=True)

Place = Annotated[str, typer.Option("--index", metavar="DIR", help="The index: a folder, or s3://... with LanceDB.")]
Json = Annotated[bool, typer.Option("--json", help="Print the result as JSON on stdout.")]
Label = Annotated[str | None, typer.Option("--label", help="Only with this label.")]
Path_ = Annotated[str | None, typer.Option("--path", metavar="START", help="Only of pictures whose names begin so.")]
Words = Annotated[str | None, typer.Option("--words", help="Only with these words in label or description.")]
MinArea = Annotated[int | None, typer.Option("--min-area", min=0, help="Only of at least so many pixels.")]
MaxArea = Annotated[int | None, typer.Option("--max-area", min=1, help="Only of at most so many pixels.")]
Since = Annotated[str | None, typer.Option("--since", metavar="DATE", help="Only added then or later, as in 2026-11-21.")]
Until = Annotated[str | None, typer.Option("--until", metavar="DATE", help="Only added before.")]
Count = Annotated[int, typer.Option("-n", "--count", min=1, max=10_000, help="How many.")]
Skip = Annotated[int, typer.Option("--skip", min=0, help="Leave out so many of the first: the next page.")]


@app.command(no_args_is_help=True)
def add(
    sources: Annotated[
        list[str], typer.Argument(metavar="SOURCE...", help="Folders, pictures, tables with prompts, s3://...; - reads a list.")
    ],
    index: Place = "library",
    text: Text = None,
    detector: DetectorName = None,
    boxes: Annotated[
        Path | None,
        typer.Option("--boxes", metavar="FILE", help="Boxes by picture: COCO, Label Studio, JSON, YOLO."),
    ] = None,
    words_model: WordsModel = None,
    kind: Annotated[str | None, typer.Option("--store", help="lance or exact. Default: LanceDB where it is installed.")] = None,
    model: ModelName = "nano",
    device: DeviceName = "auto",
    precision: PrecisionName = "exact",
    as_json: Json = False,
) -> None:
    """Add the segments of pictures.

    Everything in them, what is pointed at, or what a detector finds. A picture that is there already (by its content) is
    passed over, so a run that was stopped goes on. One that cannot be read is reported, the rest is done, and the exit code
    is 3.

    pointcut index add photos/ --index library
    """
    from ..batch.places import read_bytes
    from ..library import Library
    from ..segment.segmenter import load

    tasks = gathered(listed(sources, null=False), boxes, pages=False)
    segmenter = load(model, device=device, precision=precision)
    library = Library(index, segmenter, kind, words_model)
    finder = _finder(detector_name(text, detector), segmenter, text)
    found = known = 0
    failed: list[dict[str, str]] = []
    try:
        with _progress(len(tasks)) as advance:
            for task in tasks:
                try:
                    cut = _pointed(task.pointed) if task.pointed else finder
                    data = read_bytes(task.path)
                    segments = library.add(str(task.path), data, cut) if cut else library.add(str(task.path), data)
                    known, found = known + (segments is None), found + (segments or 0)
                except InputError as error:  # of the picture; others concern all of them
                    failed.append({"name": task.name, "error": type(error).__name__, "message": str(error)})
                advance()
    finally:
        library.flush()
    done = len(tasks) - len(failed) - known
    if as_json:
        emit({"pictures": done, "known": known, "segments": found, "failed": failed, "index": library.store.stats()})
    else:
        for one in failed:
            fail(one["message"])
        say(f"{done} pictures added, {known} were there, {found} segments; {len(library.store)} in all")
    if failed:
        raise typer.Exit(SOME_FAILED)


@app.command(no_args_is_help=True)
def search(
    image: Annotated[Path | None, typer.Argument(metavar="[IMAGE]", help="A picture to point at; alone: all of it.")] = None,
    index: Place = "library",
    point: Annotated[list[str] | None, typer.Option("--point", metavar="X,Y", help="A pixel of what is looked for.")] = None,
    not_: Annotated[list[str] | None, typer.Option("--not", metavar="X,Y", help="A pixel that is not it.")] = None,
    box: Annotated[str | None, typer.Option("--box", metavar="X0,Y0,X1,Y1", help="A box around it.")] = None,
    entry: Annotated[str | None, typer.Option("--id", help="Like this segment of the index.")] = None,
    text: Annotated[
        str | None, typer.Option("--text", metavar="WORDS", help="What is meant; the index must be made with --words-model.")
    ] = None,
    words: Words = None,
    label: Label = None,
    path: Path_ = None,
    min_area: MinArea = None,
    max_area: MaxArea = None,
    since: Since = None,
    until: Until = None,
    others: Annotated[bool, typer.Option("--others", help="Only in other pictures than the one that is asked with.")] = False,
    count: Count = 12,
    skip: Skip = 0,
    exact: Annotated[bool, typer.Option("--exact", help="Look at every segment, not just at likely ones.")] = False,
    out: Annotated[Path | None, typer.Option("--out", "-o", metavar="FILE", help="Also draw what was found.")] = None,
    model: ModelName = "nano",
    device: DeviceName = "auto",
    precision: PrecisionName = "exact",
    as_json: Json = False,
) -> None:
    """Find segments like another one, or by words.

    Like the one that is pointed at, like a picture, like another segment, or what they are in words.

    pointcut index search photo.jpg --point 225,110 --index library --out found.png
    """
    from ..index import Where

    where = Where(min_area, max_area, label, path, words, since, until)
    clicks = [list(parse.point(text)) for text in [*(point or []), *(not_ or [])]]
    labels = [1] * len(point or []) + [0] * len(not_ or [])
    if image is None and (clicks or box):
        raise typer.BadParameter("--point and --box are of a picture: name it")
    if image is None and entry is None and text is None and where.everything:
        raise typer.BadParameter("say what to look for: a picture, --id, --text, --words or another condition")
    if [image, entry, text].count(None) < 2:
        raise typer.BadParameter("give one of a picture, --id and --text")
    if image is not None:
        from ..library import Library
        from ..segment.segmenter import load

        library = Library(index, load(model, device=device, precision=precision))
        vector, sha256 = _asked(library, image, clicks, labels, list(parse.box(box)) if box else None)
        hits = library.search(vector, count, _elsewhere(where, sha256 if others else None), skip, exact=exact)
    elif text is not None:
        from ..library import search_by_meaning

        hits = search_by_meaning(index, text, count, where, skip, device=device, exact=exact)
    else:
        hits = _without_picture(_open(index), entry, where, count, skip, others=others, exact=exact)
    _show(hits, out, as_json)


@app.command("list")
def list_(
    index: Place = "library",
    words: Words = None,
    label: Label = None,
    path: Path_ = None,
    min_area: MinArea = None,
    max_area: MaxArea = None,
    since: Since = None,
    until: Until = None,
    count: Count = 50,
    skip: Skip = 0,
    as_json: Json = False,
) -> None:
    """What an index holds, by picture."""
    from ..index import Where
    from ..index.entries import told

    entries = _open(index).entries(Where(min_area, max_area, label, path, words, since, until), count, skip)
    if as_json:
        emit([told(entry) for entry in entries])
        return
    for entry in entries:
        print(f"{entry.id}  {entry.image}  {entry.area} pixels  {entry.label}  {entry.description[:60]}".rstrip())


@app.command(no_args_is_help=True)
def remove(
    ids: Annotated[list[str] | None, typer.Argument(metavar="[ID...]", help="Of segments; or give conditions.")] = None,
    index: Place = "library",
    words: Words = None,
    label: Label = None,
    path: Path_ = None,
    min_area: MinArea = None,
    max_area: MaxArea = None,
    since: Since = None,
    until: Until = None,
    everything: Annotated[bool, typer.Option("--everything", help="All of them.")] = False,
) -> None:
    """Take segments out, by id or by condition."""
    from ..index import Where

    where = Where(min_area, max_area, label, path, words, since, until, tuple(ids or ()))
    if where.everything != everything:
        raise typer.BadParameter("name segments or give a condition; --everything alone takes out all of them")
    say(f"{_open(index).remove(where)} segments removed")


@app.command()
def stats(index: Place = "library", as_json: Json = False) -> None:
    """How much an index holds, and whose vectors."""
    told = _open(index).stats()
    if as_json:
        emit(told)
        return
    for name, value in told.items():
        print(f"{name}: {value}")


@app.command()
def compact(index: Place = "library") -> None:
    """Take what was removed out of the files.

    Trains the approximate search besides, where there is enough.
    """
    store = _open(index)
    store.compact()
    say(f"{len(store)} segments")


def _open(place: str) -> Store:
    from ..index import open_store

    return open_store(place)


def _finder(which: str | None, segmenter: Segmenter, text: str | None) -> Cut | None:
    """Masks of what a detector finds; None: no detector is asked."""
    if which is None:
        return None
    from ..detect import open_detector
    from ..pipeline import Part

    detector = open_detector(which, str(segmenter.device))

    def cut(photo: Any) -> tuple[Any, Sequence[str]]:
        found = Part(photo, photo.image, 0, 0).segment_found(detector, text)
        return found.cut, found.labels

    return cut


def _pointed(pointed: Any) -> Cut:
    """Masks of what is pointed at."""

    def cut(photo: Any) -> tuple[Any, Sequence[str]]:
        found = photo.segment(*pointed.prompts_in(photo.size)).best
        return found, [pointed.names[i] for i in found.objects]

    return cut


def _asked(
    library: Library, image: Path, clicks: list[list[float]], labels: list[int], box: list[float] | None
) -> tuple[np.ndarray, str]:
    """The vector of what is pointed at in a picture, or of all of it; and the file's digest."""
    import hashlib

    from ..batch.places import read_bytes
    from ..reading import read_picture

    data = read_bytes(image)
    photo = library.model.encode(read_picture(data, name=str(image)).pixels)
    if clicks or box:
        cut = photo.segment(points=clicks or None, labels=labels or None, boxes=box).best
        vector = library.vectors(photo, cut)[0]
    else:
        vector = library.whole(photo)
    return vector, hashlib.sha256(data).hexdigest()


def _elsewhere(where: Where, sha256: str | None) -> Where:
    from dataclasses import replace

    return replace(where, not_sha256=sha256)


def _without_picture(
    store: Store, entry: str | None, where: Where, count: int, skip: int, *, others: bool, exact: bool
) -> list[Hit]:
    """Like a segment of the index, or by words and conditions alone. Raises InputError."""
    if entry is None:
        return store.meeting(where, count, skip)
    known = store.entry(entry)
    if known is None:
        raise InputError(f"{store.place}: holds no segment {entry}; `pointcut index list` shows them")
    vector = store.vector_of(entry)
    return store.search(vector, count, _elsewhere(where, known.sha256 if others else None), skip, exact=exact)


def _show(hits: list[Hit], out: Path | None, as_json: bool) -> None:
    """As a table, as JSON, and as a picture if asked."""
    from ..index.entries import told

    if out is not None and hits:
        from .. import draw
        from ..library import contact_sheet

        draw.save(contact_sheet(hits), out)
    if as_json:
        emit([{"similarity": round(hit.similarity, 4)} | told(hit.entry) for hit in hits])
        return
    for hit in hits:
        entry = hit.entry
        print(f"{hit.similarity:.3f}  {entry.id}  {entry.image}  {entry.area} pixels  {entry.label}".rstrip())
    if out is not None and hits:
        print(out)
    if not hits:
        say("nothing was found")


@contextmanager
def _progress(total: int) -> Iterator[Any]:
    """A bar on a terminal."""
    with typer.progressbar(length=total, label="index", file=sys.stderr, hidden=not sys.stderr.isatty(), show_pos=True) as bar:
        yield lambda: bar.update(1)

"""`pointcut batch`: the same for thousands of pictures, in a folder that a killed run goes on in."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from ..errors import InputError
from . import parse
from .options import (
    Bands,
    CropBox,
    DetectorName,
    DeviceName,
    LongSide,
    MinRegion,
    ModelName,
    PrecisionName,
    Scale,
    Side,
    Text,
    Tile,
    Zoom,
    detector_name,
    preparation,
    reading,
)
from .output import SOME_FAILED, emit, fail, say

if TYPE_CHECKING:
    from ..batch.inputs import Pointed, Task
    from ..batch.run import Report

SHOWN = 10
"""Failures that are told one by one; all are in the report."""


def batch(
    sources: Annotated[
        list[str],
        typer.Argument(metavar="SOURCE...", help="Folders, pictures, tables (CSV, Parquet), s3://...; - reads a list."),
    ],
    out: Annotated[Path, typer.Option("--out", "-o", metavar="DIR", help="Where results, journal and report go.")] = Path(
        "out"
    ),
    formats: Annotated[
        str,
        typer.Option(
            "--format", "-f", metavar="LIST", help="Of coco,parquet,yolo,geojson,labelstudio,labelme,npz,png,overlay."
        ),
    ] = "coco",
    point: Annotated[list[str] | None, typer.Option("--point", metavar="X,Y", help="The same click on every picture.")] = None,
    not_: Annotated[list[str] | None, typer.Option("--not", metavar="X,Y", help="What is not the object; repeats.")] = None,
    box: Annotated[
        list[str] | None, typer.Option("--box", metavar="X0,Y0,X1,Y1", help="The same box on every picture; repeats.")
    ] = None,
    boxes: Annotated[
        Path | None, typer.Option("--boxes", metavar="FILE", help="Boxes by picture: COCO, Label Studio, or a YOLO folder.")
    ] = None,
    points: Annotated[
        int | None, typer.Option("--points", min=1, max=256, help="Points per side when everything is looked for.")
    ] = None,
    min_score: Annotated[
        float | None, typer.Option("--min-score", min=0, max=1, help="Masks of a lower score are dropped.")
    ] = None,
    min_region: MinRegion = 0,
    fast: Annotated[bool, typer.Option("--fast", help="Leave out points within something found; finds a little less.")] = False,
    text: Text = None,
    detector: DetectorName = None,
    pages: Annotated[
        bool, typer.Option("--pages", help="Every page of a TIFF and frame of a DICOM file, each as a picture.")
    ] = False,
    scale: Scale = None,
    bands: Bands = None,
    crop: CropBox = None,
    long_side: LongSide = None,
    zoom: Zoom = False,
    tile: Tile = None,
    side: Side = None,
    model: ModelName = "nano",
    device: DeviceName = "auto",
    precision: PrecisionName = "exact",
    workers: Annotated[
        int | None, typer.Option("--workers", min=1, help="Threads; by default one a core, one on a GPU.")
    ] = None,
    engine: Annotated[str, typer.Option("--engine", help="Who does the work: local, or ray (docs/cluster.md).")] = "local",
    address: Annotated[
        str | None, typer.Option("--address", help="Of a Ray cluster: auto, ray://HOST:10001; without it one begins here.")
    ] = None,
    fresh: Annotated[bool, typer.Option("--fresh", help="Begin anew instead of going on.")] = False,
    retry_failed: Annotated[bool, typer.Option("--retry-failed", help="Try pictures that failed once more.")] = False,
    watch: Annotated[bool, typer.Option("--watch", help="Stay, and do what comes into the folders; Ctrl-C ends it.")] = False,
    null: Annotated[bool, typer.Option("-0", help="Names on stdin end in a zero byte, as `find -print0` writes them.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print the report as JSON on stdout.")] = False,
) -> None:
    """Segment thousands of pictures, in a job that can be resumed.

    Cuts out everything in them, or what is pointed at. Writes the formats, pointcut.batch.jsonl (a line a picture) and
    report.json. A run that was stopped or killed goes on when it is started again, and ends with the same files. A picture
    that cannot be done is reported, the rest is done, and the exit code is 3.

    pointcut batch photos/ --out found --format coco,overlay
    """
    if engine not in ("local", "ray"):
        raise typer.BadParameter(f"--engine must be local or ray, got {engine!r}")
    if address and engine != "ray":
        raise typer.BadParameter("--address is of a Ray cluster; add --engine ray")

    from ..batch.on_ray import ray_engine
    from ..batch.processes import engine_for
    from ..batch.run import run_batch
    from ..batch.work import BatchJob
    from ..tiles import Tiling

    pointed = fixed(point or [], not_ or [], box or [])
    search = {
        "points_per_side": points,
        "pred_iou_thresh": min_score,
        "min_mask_region_area": min_region or None,
        "skip_covered": fast or None,
    }
    job = BatchJob(
        model,
        precision,
        tuple(parse.names(formats)),
        pointed,
        tuple((name, value) for name, value in search.items() if value is not None),
        text=text,
        detector=detector_name(text, detector),
        side=side,
        preparation=preparation(crop, long_side, zoom=zoom),
        reading=reading(0, scale, bands),
        tiling=Tiling(tile, tile // 4) if tile else None,
    )
    names = listed(sources, null)
    gather = partial(found_in, names, boxes, pages, out)
    tasks = gather() if watch else gathered(names, boxes, pages, out)
    if not tasks:
        say(f"{no_pictures(names)}; waiting for them")
        tasks = waited(gather, [])
    while True:
        with shown(as_json) as progress:
            report = run_batch(
                tasks,
                job,
                out,
                device=device,
                workers=workers,
                fresh=fresh,
                retry=retry_failed,
                progress=progress,
                engine=ray_engine(address, device, workers) if engine == "ray" else engine_for(job, device, workers),
            )
        tell(report, out, as_json)
        if not watch:
            break
        fresh, tasks = False, waited(gather, tasks)
    if report.failed:
        raise typer.Exit(SOME_FAILED)


def fixed(points: list[str], others: list[str], boxes: list[str]) -> Pointed | None:
    """The same prompt for all pictures, or None."""
    from ..batch.inputs import Pointed

    if boxes and (points or others):
        raise typer.BadParameter("give --box or --point, not both: boxes are objects of their own")
    if boxes:
        found = [parse.box(text) for text in boxes]
        return Pointed(boxes=tuple((b[0], b[1], b[2], b[3]) for b in found), names=("object",) * len(found))
    if not points:
        if others:
            raise typer.BadParameter("say first what is the object: --point X,Y")
        return None
    clicks = tuple((p[0], p[1]) for p in map(parse.point, [*points, *others]))
    return Pointed(points=(clicks,), labels=((1,) * len(points) + (0,) * len(others),), names=("object",))


def listed(sources: list[str], null: bool) -> list[str]:
    """The sources, with the names from stdin in the place of -."""
    names = []
    for source in sources:
        if source == "-":
            text = parse.stdin().read().decode(errors="surrogateescape")
            names += [name for name in (text.split("\0") if null else text.splitlines()) if name]
        else:
            names.append(source)
    return names


def gathered(names: list[str], boxes: Path | None, pages: bool, out: Path | None = None) -> list[Task]:
    """The pictures that are to be done, and what is pointed at on each. Raises InputError, where there are none too."""
    tasks = found_in(names, boxes, pages, out)
    if not tasks:
        raise InputError(no_pictures(names))
    return tasks


def no_pictures(names: list[str]) -> str:
    return f"no pictures in {', '.join(names[:3]) or 'the list'}; their names end in .jpg, .png, .tif, ..."


def found_in(names: list[str], boxes: Path | None, pages: bool, out: Path | None) -> list[Task]:
    """What is there at present, which may be nothing. Raises InputError."""
    from ..batch.inputs import tasks_in, with_boxes, with_pages

    tasks = tasks_in(names, out)
    if tasks and boxes is not None:
        tasks = with_boxes(tasks, boxes)
    return with_pages(tasks) if pages else tasks


def waited(gather: Callable[[], list[Task]], known: list[Task]) -> list[Task]:
    """What there is when something has come, or changed, and keeps its size; with what was known and is taken away by now.

    What cannot be read meanwhile (a table that is being written, two pictures of one name) is told, and waited for.
    """
    from ..batch.places import size_of

    def sizes_of(tasks: list[Task]) -> dict[str, int | None]:
        return {task.name: size_of(task.path) for task in tasks}

    seen, before, told = sizes_of(known), None, None
    while True:
        time.sleep(1.0)
        try:
            tasks = gather()
        except InputError as error:
            if str(error) != told:
                told = str(error)
                fail(told)
            continue
        sizes = sizes_of(tasks)
        if sizes.items() - seen.items() and sizes == before:
            return [*(task for task in known if task.name not in sizes), *tasks]
        before = sizes


@contextmanager
def shown(quiet: bool) -> Iterator[Callable[[int, int, int], None] | None]:
    """A bar on a terminal, with the rate and what failed."""
    if quiet or not sys.stderr.isatty():
        yield None
        return
    began, first = time.perf_counter(), 0
    with typer.progressbar(length=1, label="batch", file=sys.stderr, show_pos=True) as bar:

        def progress(done: int, total: int, failed: int) -> None:
            nonlocal first
            first = first or done - 1
            rate = (done - first) / max(1e-6, time.perf_counter() - began)
            bar.length = total
            bar.label = f"{rate:.1f}/s" + (f", {failed} failed" if failed else "")
            bar.update(done - bar.pos)

        yield progress


def tell(report: Report, out: Path, as_json: bool) -> None:
    """The report, for programs or for people."""
    if as_json:
        emit(report.document())
        return
    for one in report.failed[:SHOWN]:
        fail(one["message"])
    if len(report.failed) > SHOWN:
        fail(f"and {len(report.failed) - SHOWN} more: {out / 'report.json'}")
    done = report.pictures - len(report.failed)
    resumed = f" ({report.resumed} of them before)" if report.resumed else ""
    say(f"{done} of {report.pictures} pictures done{resumed}, {report.masks} masks, {report.rate:.1f} pictures a second")
    if report.described or report.undescribed:
        say(f"{report.described} masks described, {report.undescribed.total()} not")
        for why, count in report.undescribed.most_common(3):
            fail(f"{count} masks: {why}")
    work: Any = sum(report.where.values())
    if work:
        say("work: " + ", ".join(f"{name} {100 * seconds / work:.0f} %" for name, seconds in report.where.items()))
    for path in report.files:
        print(path)

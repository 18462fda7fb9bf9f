"""`pointcut run`: the whole way, from a folder of pictures to a library of cut-outs that can be searched."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from ..errors import ServerError
from . import parse
from .batch import gathered, listed, shown, tell
from .options import (
    Ask,
    BackgroundName,
    Concurrency,
    Context,
    DetectorName,
    DeviceName,
    EndpointAddress,
    LongSide,
    ModelName,
    PrecisionName,
    Text,
    VlmName,
    WordsModel,
    Zoom,
    describing,
    detector_name,
    preparation,
)
from .output import SOME_FAILED, say


def run(
    sources: Annotated[
        list[str],
        typer.Argument(metavar="SOURCE...", help="Folders, pictures, tables (CSV, Parquet), s3://...; - reads a list."),
    ],
    out: Annotated[Path, typer.Option("--out", "-o", metavar="DIR", help="Where results, journal and report go.")] = Path(
        "out"
    ),
    formats: Annotated[
        str, typer.Option("--format", "-f", metavar="LIST", help="cutout,overlay,coco and others, see docs/formats.md.")
    ] = "coco,cutout",
    text: Text = None,
    detector: DetectorName = None,
    boxes: Annotated[
        Path | None, typer.Option("--boxes", metavar="FILE", help="Boxes by picture: COCO, Label Studio, JSON, YOLO.")
    ] = None,
    describe: Annotated[bool, typer.Option("--describe", help="Ask a vision-language model what each segment is.")] = False,
    ask: Ask = None,
    endpoint: EndpointAddress = None,
    vlm: VlmName = "",
    background: BackgroundName = "dim",
    context: Context = 0.25,
    concurrency: Concurrency = 4,
    index: Annotated[
        str | None, typer.Option("--index", metavar="DIR", help="Also make all of it searchable: a folder, or s3://...")
    ] = None,
    words_model: WordsModel = None,
    long_side: LongSide = None,
    zoom: Zoom = False,
    model: ModelName = "nano",
    device: DeviceName = "auto",
    precision: PrecisionName = "exact",
    workers: Annotated[int | None, typer.Option("--workers", min=1, help="As `pointcut batch` has them.")] = None,
    fresh: Annotated[bool, typer.Option("--fresh", help="Begin anew instead of going on.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print the report as JSON on stdout.")] = False,
) -> None:
    """Detect, segment, describe, index and export, in one job.

    Without --text, --detector and --boxes everything in the pictures is cut out, each thing once. A run that was stopped goes
    on when it is started again; pictures that cannot be done are reported, and the exit code is 3. What a model does not
    describe stays without a description.

    pointcut run photos/ --text "a cup. a cat." --describe --vlm qwen3-vl --index library --out cuts
    """
    if words_model and not index:
        raise typer.BadParameter("--words-model is of an index; add --index DIR")

    from ..batch.processes import engine_for
    from ..batch.run import run_batch
    from ..batch.work import BatchJob, Indexed

    asked = describing(endpoint, vlm, ask, background, context, concurrency) if describe or ask else None
    job = BatchJob(
        model,
        precision,
        tuple(parse.names(formats)),
        distinct=True,
        text=text,
        detector=detector_name(text, detector),
        preparation=preparation(None, long_side, zoom=zoom),
        describe=asked,
        index=Indexed(index, words_model) if index else None,
    )
    tasks = gathered(listed(sources, null=False), boxes, pages=False, out=out)
    if asked is not None:
        with asked.open() as describer:
            try:
                say(f"{describer.model} at {asked.address} is asked: {asked.look.ask}")
            except ServerError as error:
                say(f"nothing will be described: {error}")
    with shown(as_json) as progress:
        report = run_batch(
            tasks,
            job,
            out,
            device=device,
            workers=workers,
            fresh=fresh,
            progress=progress,
            engine=engine_for(job, device, workers),
        )
    tell(report, out, as_json)
    if "cutout" in job.formats and not as_json:
        say(f"each object alone: {out}/*.cutouts/*.png")
    if index and not as_json:
        say(f"search them: pointcut index search PHOTO --point X,Y --index {index} --out found.png")
    if report.failed:
        raise typer.Exit(SOME_FAILED)

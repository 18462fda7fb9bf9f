"""`pointcut track`: point at things in a film, follow them to its end."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from ..files import make_folder
from . import parse
from .options import Compiled, DeviceName, ModelName, PrecisionName, Scale
from .output import emit, fail, say

if TYPE_CHECKING:
    from ..video.job import Said

BROKE_OFF = 3
"""The exit code for a film that breaks off: what came before is done."""


def track(
    video: Annotated[
        Path, typer.Argument(metavar="VIDEO", help="A film, a folder of pictures, a TIFF or DICOM stack; - is stdin.")
    ],
    point: Annotated[
        list[str] | None, typer.Option("--point", metavar="FRAME:X,Y[@ID]", help="A pixel of an object; repeat for more.")
    ] = None,
    not_: Annotated[
        list[str] | None,
        typer.Option("--not", metavar="FRAME:X,Y[@ID]", help="A pixel that is not the object; repeat for more."),
    ] = None,
    box: Annotated[
        list[str] | None, typer.Option("--box", metavar="FRAME:X0,Y0,X1,Y1[@ID]", help="A box around an object.")
    ] = None,
    mask: Annotated[
        list[str] | None,
        typer.Option("--mask", metavar="FRAME:FILE[@ID]", help="An object's mask, a picture: not black is it."),
    ] = None,
    out: Annotated[Path, typer.Option("--out", "-o", metavar="DIR", help="Where results go.")] = Path("out"),
    formats: Annotated[
        str,
        typer.Option("--format", "-f", metavar="LIST", help="Of overlay.mp4,cutout.webm,cutout,masks,coco,json; with commas."),
    ] = "overlay.mp4,json",
    scale: Scale = None,
    model: ModelName = "nano",
    device: DeviceName = "auto",
    precision: PrecisionName = "exact",
    compiled: Compiled = False,
    start: Annotated[int | None, typer.Option("--start", min=0, help="First frame; by default the first pointed at.")] = None,
    end: Annotated[int | None, typer.Option("--end", min=1, help="Stop before this frame.")] = None,
    fresh: Annotated[bool, typer.Option("--fresh", help="Begin anew instead of going on with a job that was stopped.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print what was done as JSON on stdout.")] = False,
) -> None:
    """Follow things through a film.

    Frames count from 0; IDs are yours to choose, 1 by default. Writes STEM.sheet.jpg to look at, STEM.track.jsonl (one frame a
    line: masks as run lengths, scores, who is out of sight) and the formats asked for. Stopped, it goes on where it was.

    pointcut track clip.mp4 --point 0:420,260 --box 0:10,20,200,300@2 --out tracked
    """
    said = gathered(point or [], not_ or [], box or [], mask or [])
    if not said:
        raise typer.BadParameter("say what to follow: --point FRAME:X,Y, --box FRAME:X0,Y0,X1,Y1 or --mask FRAME:FILE")

    from ..images import MAX_PIXELS
    from ..scaling import Scaling
    from ..segment.segmenter import load
    from ..video.frames import CAMERA, open_frames
    from ..video.job import TrackJob, run_job
    from ..video.pipe import PipedFilm
    from ..video.render import check_formats, render, summary

    if str(video).startswith(CAMERA):
        raise typer.BadParameter("a camera comes through a pipe: ffmpeg ... -f matroska - | pointcut track -   (docs/video.md)")
    names = parse.names(formats)
    check_formats(names)
    scaling = Scaling.parse(scale) if scale else None
    if scaling and str(video) == "-":
        raise typer.BadParameter("what comes through a pipe has 8 bits already; leave out --scale")
    make_folder(out)
    stem = "stdin" if str(video) == "-" else video.resolve().stem
    segmenter = load(model, device=device, precision=precision, compiled=compiled)
    piped = None
    if str(video) == "-":
        piped = PipedFilm(parse.stdin(), out / "stdin.film", max_pixels=MAX_PIXELS)
    tracker = segmenter.track(piped or open_frames(video, scaling=scaling))
    job = TrackJob(str(video), segmenter.name, said, out, stem, start, end, scale)
    last = end if end is not None else tracker.frames.count
    with typer.progressbar(length=last or 0, label=stem, file=sys.stderr, hidden=not sys.stderr.isatty()) as bar:
        try:
            begun = run_job(job, tracker, fresh=fresh, progress=lambda done: bar.update(done - bar.pos))
        except KeyboardInterrupt:  # the usual end of what a camera sends; anything else can be gone on with
            if piped is None or not piped.stop():
                raise
            begun = 0
    first = start if start is not None else min(one.frame for one in said)
    if begun > first:
        say(f"went on at frame {begun}")
    files = render(job.journal, tracker.frames, out, stem, [name for name in names if name != "json"])
    figures = summary(job.journal)
    broken = getattr(tracker.frames, "broken", None)
    if as_json:
        emit(
            {"video": str(video), "model": segmenter.name, **figures, "broken": broken, "files": [str(path) for path in files]}
        )
    else:
        say(f"{figures['frames']} frames; seen: " + ", ".join(f"object {i} in {n}" for i, n in figures["seen"].items()))
        for path in files:
            print(path)
    if broken:
        fail(f"{video}: breaks off after frame {figures['frames'] + first - 1} ({broken}); what came before is done")
        raise typer.Exit(BROKE_OFF)


def gathered(points: list[str], others: list[str], boxes: list[str], masks: list[str]) -> tuple[Said, ...]:
    """The options as prompts: one for each frame and object."""
    from ..video.job import Said

    clicks: dict[tuple[int, int], list[tuple[tuple[float, float], int]]] = {}
    framed: dict[tuple[int, int], tuple[float, ...]] = {}
    for texts, label in ((points, 1), (others, 0)):
        for text in texts:
            frame, object_id, rest = parse.frame_and_id(text, "0:420,260@1")
            x, y = parse.point(rest)
            clicks.setdefault((frame, object_id), []).append(((x, y), label))
    for text in boxes:
        frame, object_id, rest = parse.frame_and_id(text, "0:10,20,200,300@1")
        if (frame, object_id) in framed:
            raise typer.BadParameter(f"object {object_id} has two boxes on frame {frame}; give another object another @ID")
        framed[frame, object_id] = parse.box(rest)
    drawn: dict[tuple[int, int], str] = {}
    for text in masks:
        frame, object_id, path = parse.frame_and_id(text, "0:mask.png@1")
        if (frame, object_id) in {*drawn, *clicks, *framed}:
            raise typer.BadParameter(f"object {object_id} has a mask and something else on frame {frame}; give one of them")
        drawn[frame, object_id] = path
    return tuple(
        Said(
            *key,
            points=tuple(xy for xy, _ in clicks.get(key, [])),
            labels=tuple(label for _, label in clicks.get(key, [])),
            box=framed.get(key),
            mask=drawn.get(key),
        )
        for key in sorted({*clicks, *framed, *drawn})
    )

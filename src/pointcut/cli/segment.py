"""`pointcut segment`: cut what is pointed at out of one or more pictures."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from ..errors import PointcutError
from ..files import make_folder
from . import parse
from .options import DeviceName, ModelName, PrecisionName
from .output import emit, failed, leave_if_failed, say

if TYPE_CHECKING:
    from ..segment.segmenter import Segmenter
    from ..segments import Segments


@dataclass(frozen=True)
class Request:
    """What is asked of every picture."""

    points: list[list[float]]
    labels: list[int]
    boxes: list[list[float]]
    mask: Path | None
    multimask: bool | None


def segment(
    images: Annotated[list[Path], typer.Argument(metavar="IMAGE...", help="Pictures to cut from; - reads one from stdin.")],
    point: Annotated[
        list[str] | None, typer.Option("--point", metavar="X,Y", help="A pixel of the object; repeat for more.")
    ] = None,
    not_: Annotated[
        list[str] | None, typer.Option("--not", metavar="X,Y", help="A pixel that is not the object; repeat for more.")
    ] = None,
    box: Annotated[
        list[str] | None, typer.Option("--box", metavar="X0,Y0,X1,Y1", help="A box around the object; repeat for more objects.")
    ] = None,
    mask: Annotated[
        Path | None,
        typer.Option("--mask", metavar="FILE", help="A rough mask, a picture of the same size: not black is object."),
    ] = None,
    multimask: Annotated[
        bool | None,
        typer.Option("--multimask/--single", help="Three candidates, or one. Default: three where one click is all there is."),
    ] = None,
    model: ModelName = "nano",
    device: DeviceName = "auto",
    precision: PrecisionName = "exact",
    out: Annotated[
        Path | None, typer.Option("--out", "-o", metavar="DIR", help="Where results go; by default beside each picture.")
    ] = None,
    as_json: Annotated[
        bool, typer.Option("--json", help="Print results as JSON on stdout; files are written as well.")
    ] = False,
) -> None:
    """Cut what you point at out of a picture.

    Writes STEM.cutout.png (the object alone, transparent around it), STEM.mask.png, STEM.overlay.png (to look at) and
    STEM.json. Coordinates are pixels from the upper left corner: x to the right, y down.

    pointcut segment dog.jpg --point 500,375 --not 450,300 --out cuts
    """
    positive = [list(parse.point(text)) for text in point or []]
    negative = [list(parse.point(text)) for text in not_ or []]
    request = Request(
        points=positive + negative,
        labels=[1] * len(positive) + [0] * len(negative),
        boxes=[list(parse.box(text)) for text in box or []],
        mask=mask,
        multimask=multimask,
    )
    if not positive and not request.boxes and mask is None:
        raise typer.BadParameter("say what to cut: --point X,Y, --box X0,Y0,X1,Y1 or --mask FILE")
    if len(request.boxes) > 1 and (request.points or mask):
        raise typer.BadParameter("points and masks go with one box; several boxes are several objects")
    _check_names(images, out)
    if out is not None:
        make_folder(out)

    from ..segment.segmenter import load

    segmenter = load(model, device=device, precision=precision)
    results, errors = [], []
    for image in images:
        try:
            results.append(_one(segmenter, image, request, out))
        except PointcutError as error:
            errors.append(error)
            results.append(failed(image, error))
            continue
        if not as_json:
            _report(results[-1])
    if as_json:
        emit(results if len(images) > 1 else results[0])
    leave_if_failed(errors, len(images))


def _check_names(images: list[Path], out: Path | None) -> None:
    """Two pictures must not write the same files."""
    places: dict[Path, Path] = {}
    for image in images:
        place = (out if out is not None else image.parent) / _stem(image)
        if place in places:
            raise typer.BadParameter(f"{places[place]} and {image} would both be written as {place}.*; name them apart")
        places[place] = image


def _stem(image: Path) -> str:
    return "stdin" if str(image) == "-" else image.stem


def _one(segmenter: Segmenter, image: Path, request: Request, out: Path | None) -> dict[str, Any]:
    """Segments one picture and writes its four files; their paths and figures come back."""
    from ..images import open_image, open_mask

    clock = Clock()
    pixels = clock.time("decode", lambda: open_image(sys.stdin.buffer.read() if str(image) == "-" else image))
    rough = open_mask(request.mask) if request.mask else None
    photo = clock.time("encode", lambda: segmenter.encode(pixels))
    cut = clock.time(
        "segment",
        lambda: photo.segment(
            points=request.points or None,
            labels=request.labels or None,
            boxes=request.boxes or None,
            mask=rough,
            multimask=request.multimask,
        ),
    )
    folder = out if out is not None else Path() if str(image) == "-" else image.parent
    base = folder / _stem(image)
    files = {kind: str(Path(f"{base}.{kind}.png")) for kind in ("cutout", "mask", "overlay")}
    best = cut.best

    def write() -> None:
        for kind, path in files.items():
            best.save(path, kind)

    clock.time("write", write)
    record = {
        "image": str(image),
        "width": photo.size[1],
        "height": photo.size[0],
        "model": segmenter.name,
        "device": str(segmenter.device),
        "prompt": _prompt_record(request),
        "best": cut.best_rows.tolist(),
        "masks": _mask_records(cut),
        "files": files | {"json": f"{base}.json"},
        "seconds": clock.seconds,
    }
    _write_json(Path(f"{base}.json"), record)
    return record


class Clock:
    """Seconds that steps took, by name."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}

    def time(self, name: str, step: Callable[[], Any]) -> Any:
        started = time.perf_counter()
        result = step()
        self.seconds[name] = round(time.perf_counter() - started, 4)
        return result


def _prompt_record(request: Request) -> dict[str, Any]:
    return {
        "points": request.points,
        "labels": request.labels,
        "boxes_xyxy": request.boxes,
        "mask": str(request.mask) if request.mask else None,
        "multimask": request.multimask,
    }


def _mask_records(cut: Segments) -> list[dict[str, Any]]:
    return [{"object": int(cut.objects[i])} | cut.figures(i) | {"rle": rle} for i, rle in enumerate(cut.rle())]


def _write_json(path: Path, record: dict[str, Any]) -> None:
    from ..files import replacing

    with replacing(path) as temporary:
        temporary.write_text(json.dumps(record, indent=1) + "\n")


def _report(record: dict[str, Any]) -> None:
    seconds = record["seconds"]
    for row in record["best"]:
        mask = record["masks"][row]
        share = 100 * mask["area"] / (record["width"] * record["height"])
        say(
            f"{record['image']}: score {mask['score']:.2f}, {mask['area']} pixels ({share:.0f} % of the picture), "
            f"encoded in {1000 * seconds['encode']:.0f} ms, cut in {1000 * seconds['segment']:.0f} ms"
        )
    for path in record["files"].values():
        print(path)

"""`pointcut segment`: cut what is pointed at out of one or more pictures."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, NamedTuple

import typer

from ..errors import PointcutError
from ..files import make_folder
from . import parse
from .options import (
    Bands,
    CropBox,
    DetectorName,
    DeviceName,
    LongSide,
    MinRegion,
    ModelName,
    Page,
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
from .output import emit, failed, leave_if_failed, say

if TYPE_CHECKING:
    from ..detect import Detector
    from ..images import Reading
    from ..pipeline import Preparation
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
    text: str | None
    reading: Reading
    preparation: Preparation
    tile: int | None
    side: int | None
    min_region: int


class Answer(NamedTuple):
    """What came of one picture."""

    shown: Segments
    """As it is drawn: of a picture that is read in parts, in its window."""
    cut: Segments
    """In the whole picture's pixels."""
    told: dict[str, Any]
    """What is to be said of how the picture was read and looked at."""
    labels: tuple[str, ...] = ()
    box_scores: tuple[float, ...] = ()


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
    text: Text = None,
    detector: DetectorName = None,
    page: Page = 0,
    scale: Scale = None,
    bands: Bands = None,
    crop: CropBox = None,
    long_side: LongSide = None,
    zoom: Zoom = False,
    tile: Tile = None,
    side: Side = None,
    min_region: MinRegion = 0,
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

    pointcut segment dog.jpg --text "a dog. a ball." --out cuts
    """
    positive = [list(parse.point(text)) for text in point or []]
    negative = [list(parse.point(text)) for text in not_ or []]
    request = Request(
        points=positive + negative,
        labels=[1] * len(positive) + [0] * len(negative),
        boxes=[list(parse.box(text)) for text in box or []],
        mask=mask,
        multimask=multimask,
        text=text,
        reading=reading(page, scale, bands),
        preparation=preparation(crop, long_side, zoom=zoom),
        tile=tile,
        side=side,
        min_region=min_region,
    )
    _check(request, detector)
    _check_names(images, out, mask)
    if out is not None:
        make_folder(out)

    from ..detect import open_detector
    from ..segment.segmenter import load

    segmenter = load(model, device=device, precision=precision, side=side)
    asked = detector_name(text, detector)
    finder = open_detector(asked, str(segmenter.device)) if asked else None
    results, errors = [], []
    for image in images:
        try:
            results.append(_one(segmenter, finder, image, request, out))
        except PointcutError as error:
            errors.append(error)
            results.append(failed(image, error))
            continue
        if not as_json:
            _report(results[-1])
    if as_json:
        emit(results if len(images) > 1 else results[0])
    leave_if_failed(errors, len(images))


def _check(request: Request, detector: str | None) -> None:
    """What does not go together. Raises a usage error."""
    pointed = bool(request.points or request.boxes or request.mask)
    if request.text is None and detector is None:
        if not request.boxes and request.mask is None and 1 not in request.labels:
            raise typer.BadParameter("say what to cut: --point X,Y, --box X0,Y0,X1,Y1, --mask FILE or --text PHRASES")
    elif pointed:
        raise typer.BadParameter("--text and --detector say what to cut; leave out --point, --box and --mask")
    if len(request.boxes) > 1 and (request.points or request.mask):
        raise typer.BadParameter("points and masks go with one box; several boxes are several objects")
    looked = bool(request.preparation.told())
    if request.tile and (request.mask or not pointed or looked or len(request.boxes) > 1):
        raise typer.BadParameter("--tile takes points or one box, without --mask, --text, --crop, --long-side and --zoom")
    if request.preparation.zoom and request.multimask:
        raise typer.BadParameter("--zoom draws one mask of each object; leave out --multimask")


def _check_names(images: list[Path], out: Path | None, mask: Path | None) -> None:
    """Two pictures must not write the same files, and none that is somebody's. Raises a usage error."""
    places: dict[Path, Path] = {}
    given = {path.resolve() for path in (*images, *([mask] if mask else []))}
    for image in images:
        place = _base(image, out)
        if place in places:
            raise typer.BadParameter(f"{places[place]} and {image} would both be written as {place}.*; name them apart")
        places[place] = image
        for path in _files(place).values():
            if Path(path).resolve() in given or (path.endswith(".json") and not _may_go(Path(path))):
                raise typer.BadParameter(f"{path} is there and would be written over; choose another folder with --out DIR")


def _may_go(path: Path) -> bool:
    """Whether there is no such JSON file, or one of this command's: annotation tools keep theirs beside pictures as well."""
    try:
        with path.open("rb") as file:
            record = json.load(file)
    except (FileNotFoundError, NotADirectoryError):
        return True
    except (OSError, ValueError):
        return False
    return isinstance(record, dict) and record.keys() >= {"image", "prompt", "masks", "files"}


def _base(image: Path, out: Path | None) -> Path:
    """What the names of a picture's files begin with."""
    folder = out if out is not None else Path() if str(image) == "-" else image.parent
    return folder / _stem(image)


def _files(base: Path) -> dict[str, str]:
    return {kind: f"{base}.{kind}.png" for kind in ("cutout", "mask", "overlay")} | {"json": f"{base}.json"}


def _stem(image: Path) -> str:
    return "stdin" if str(image) == "-" else image.stem


def _one(segmenter: Segmenter, finder: Detector | None, image: Path, request: Request, out: Path | None) -> dict[str, Any]:
    """Segments one picture and writes its four files; their paths and figures come back."""
    from concurrent.futures import ThreadPoolExecutor

    from .. import draw

    clock = Clock()
    answer = (_in_window if request.tile else _at_once)(segmenter, finder, image, request, clock)
    files = _files(_base(image, out))
    best = answer.shown.best

    def overlay() -> None:
        captions = [*answer.labels] or [f"{score:.2f}" for score in best.scores]
        draw.save(draw.overlay(best.image, best.masks, best.prompts, captions), Path(files["overlay"]))

    def write() -> None:
        with ThreadPoolExecutor(1) as pool:
            drawn = pool.submit(overlay)
            best.save(files["cutout"], "cutout")
            best.save(files["mask"], "mask")
            drawn.result()

    clock.time("write", write)
    height, width = answer.cut.image.shape[:2]
    record = {
        "image": str(image),
        "width": width,
        "height": height,
        "model": segmenter.name,
        "device": str(segmenter.device),
        **({"side": request.side} if request.side else {}),
        **({"min_region": request.min_region} if request.min_region else {}),
        **request.preparation.told(),
        **answer.told,
        **({"detector": finder.name, "text": request.text} if finder else {}),
        "prompt": _prompt_record(request),
        "best": answer.cut.best_rows.tolist(),
        "masks": _mask_records(answer),
        "files": files,
        "seconds": clock.seconds,
    }
    _write_json(Path(files["json"]), record)
    return record


def _at_once(segmenter: Segmenter, finder: Detector | None, image: Path, request: Request, clock: Clock) -> Answer:
    """A picture that is read whole."""
    from ..arrange import without_small_regions
    from ..images import open_mask
    from ..reading import read_picture

    source = parse.stdin().read() if str(image) == "-" else image
    picture = clock.time("decode", lambda: read_picture(source, request.reading, "stdin"))
    rough = open_mask(request.mask) if request.mask else None
    part = clock.time("encode", lambda: request.preparation.encode(segmenter, picture.pixels))
    if finder is not None:
        found = clock.time("segment", lambda: part.segment_found(finder, request.text))
        scores = tuple(round(float(score), 4) for score in found.box_scores)
        cut = without_small_regions(found.cut, request.min_region)
        return Answer(cut, cut, picture.told(), found.labels, scores)
    cut = clock.time(
        "segment",
        lambda: part.segment(
            points=request.points or None,
            labels=request.labels or None,
            boxes=request.boxes or None,
            mask=rough,
            multimask=request.multimask,
        ),
    )
    cut = without_small_regions(cut, request.min_region)
    return Answer(cut, cut, picture.told())


def _in_window(segmenter: Segmenter, _: Detector | None, image: Path, request: Request, clock: Clock) -> Answer:
    """A picture of which only the window around the prompt is read."""
    from ..reading.large import open_large
    from ..tiles import segment_in
    from ..tiles.prompted import SIDE

    with open_large(image, request.reading) as picture:
        found = clock.time(
            "segment",
            lambda: segment_in(
                segmenter,
                picture,
                request.points or None,
                request.labels or None,
                request.boxes or None,
                multimask=request.multimask,
                side=request.tile or SIDE,
            ),
        )
        found, window = found.without_small_regions(request.min_region), found.window
        seen = {"window_xyxy": [window.x0, window.y0, window.x1, window.y1], "factor": window.factor}
        return Answer(found.cut, found.placed, picture.told() | seen)


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


def _mask_records(answer: Answer) -> list[dict[str, Any]]:
    cut = answer.cut
    records = [{"object": int(cut.objects[i])} | cut.figures(i) | {"rle": rle} for i, rle in enumerate(cut.rle())]
    for record, label, score in zip(records, answer.labels, answer.box_scores, strict=False):
        record |= {"label": label, "box_score": score}
    return records


def _write_json(path: Path, record: dict[str, Any]) -> None:
    from ..files import replacing

    with replacing(path) as temporary:
        temporary.write_text(json.dumps(record, indent=1) + "\n")


def _report(record: dict[str, Any]) -> None:
    seconds = record["seconds"]
    encoded = f"encoded in {1000 * seconds['encode']:.0f} ms, " if "encode" in seconds else ""
    if not record["best"]:
        say(f"{record['image']}: nothing was found")
    for row in record["best"]:
        mask = record["masks"][row]
        share = 100 * mask["area"] / (record["width"] * record["height"])
        say(
            f"{record['image']}: {mask['label'] + ', ' if 'label' in mask else ''}score {mask['score']:.2f}, "
            f"{mask['area']} pixels ({share:.0f} % of the picture), {encoded}cut in {1000 * seconds['segment']:.0f} ms"
        )
    for path in record["files"].values():
        print(path)

"""`pointcut count`: how many things there are, or how many like the one that is pointed at."""

from __future__ import annotations

import csv
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from ..errors import PointcutError
from ..files import as_text, make_folder, replacing
from . import parse
from .options import Bands, Compiled, DeviceName, ModelName, Page, PrecisionName, Scale, Side, reading
from .output import emit, failed, leave_if_failed, progress_bar, say

if TYPE_CHECKING:
    from ..count import Counted


def count(
    images: Annotated[list[Path], typer.Argument(metavar="IMAGE...", help="The pictures to count in.")],
    like: Annotated[
        list[str] | None,
        typer.Option("--like", metavar="X,Y", help="A pixel of an example in the first picture; repeat to say it better."),
    ] = None,
    box: Annotated[
        str | None, typer.Option("--box", metavar="X0,Y0,X1,Y1", help="A box around an example in the first picture.")
    ] = None,
    similarity: Annotated[
        float, typer.Option("--similarity", min=-1, max=1, help="How like the example a thing must be, up to 1.")
    ] = 0.5,
    min_area: Annotated[int, typer.Option("--min-area", min=0, help="Do not count smaller things (pixels).")] = 0,
    points: Annotated[
        int | None, typer.Option("--points", min=1, max=256, help="Points per side of the grid; more for small things.")
    ] = None,
    crop_layers: Annotated[
        int, typer.Option("--crop-layers", min=0, max=4, help="Look again at 4, then 16 crops, for small things.")
    ] = 0,
    page: Page = 0,
    scale: Scale = None,
    bands: Bands = None,
    side: Side = None,
    model: ModelName = "nano",
    device: DeviceName = "auto",
    precision: PrecisionName = "exact",
    compiled: Compiled = False,
    out: Annotated[
        Path | None, typer.Option("--out", "-o", metavar="DIR", help="Where pictures go; by default beside each image.")
    ] = None,
    table: Annotated[
        Path | None, typer.Option("--csv", metavar="FILE", help="Also a table: a row for each thing, with its area and box.")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print the result as JSON on stdout.")] = False,
) -> None:
    """Count the things in pictures, or those like an example.

    Writes STEM.count.png, in which every counted thing has its number. A picture that cannot be read is reported, and the
    others are done.

    pointcut count nuclei/*.png --like 120,80 --out counted --csv nuclei.csv
    """
    xy = [list(parse.point(text)) for text in like or []]
    example_box = list(parse.box(box)) if box else None
    pointed = bool(xy or example_box)
    how = reading(page, scale, bands)
    places = {image: (out or image.parent) / f"{image.stem}.count.png" for image in images}
    if len(set(places.values())) < len(images):
        raise typer.BadParameter("two of the pictures would be written to the same file; name them apart")

    from .. import draw
    from ..automatic.config import adapted_config
    from ..count import Specimen, count_objects
    from ..reading import read_picture
    from ..segment.segmenter import load

    if out is not None:
        make_folder(out)
    segmenter = load(model, device=device, precision=precision, side=side, compiled=compiled)
    config = adapted_config(segmenter.name, {"points_per_side": points, "crop_n_layers": crop_layers})
    example: Specimen | None = None
    results: list[dict[str, Any]] = []
    errors: list[PointcutError] = []
    for image, place in places.items():
        try:
            photo = segmenter.encode(read_picture(image, how).pixels)
            if example is None and pointed:
                example = Specimen.of(photo, photo.segment(points=xy or None, boxes=example_box).best)
            with progress_bar(image.name) as progress:
                counted = count_objects(
                    photo, example, config=config, similarity=similarity, min_area=min_area, progress=progress
                )
            draw.save(counted.picture(), place)
        except PointcutError as error:
            if image == images[0] and pointed:
                raise  # without the example nothing can be counted
            errors.append(error)
            results.append(failed(image, error))
            continue
        results.append(record(image, counted, segmenter.name, place))
        if not as_json:
            say(f"{image}: {len(counted)} things" + (" like the example" if example is not None else ""))
            print(len(counted) if len(images) == 1 else f"{len(counted)}\t{image}")
            print(place)
    if table is not None:
        write_table(table, results)
        if not as_json:
            print(table)
    if as_json:
        emit(results if len(images) > 1 else results[0])
    leave_if_failed(errors, len(images))


def record(image: Path, counted: Counted, model: str, place: Path) -> dict[str, Any]:
    """A picture's result for programs."""
    cut = counted.cut
    things = [
        {
            "number": row + 1,
            "score": round(float(cut.scores[row]), 4),
            "area": int(cut.areas[row]),
            "box_xyxy": cut.boxes_xyxy[row].tolist(),
            "similarity": None if counted.similarity is None else round(float(counted.similarity[row]), 4),
        }
        for row in range(len(counted))
    ]
    return {"image": str(image), "count": len(counted), "model": model, "things": things, "picture": str(place)}


def write_table(path: Path, results: list[dict[str, Any]]) -> None:
    """A row for each thing in each picture, for spreadsheets and statistics. Raises OutputError."""
    with replacing(path) as temporary, temporary.open("w", newline="", encoding="utf-8") as file:
        rows = csv.writer(file)
        rows.writerow(["image", "number", "area", "x0", "y0", "x1", "y1", "score", "similarity"])
        for result in results:
            image = as_text(result["image"])
            for thing in result.get("things", ()):
                rows.writerow([image, thing["number"], thing["area"], *thing["box_xyxy"], thing["score"], thing["similarity"]])

"""`pointcut count`: how many things there are, or how many like the one that is pointed at."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from ..files import make_folder
from . import parse
from .options import DeviceName, ModelName, PrecisionName
from .output import emit, progress_bar, say


def count(
    image: Annotated[Path, typer.Argument(metavar="IMAGE", help="The picture to count in.")],
    like: Annotated[
        list[str] | None, typer.Option("--like", metavar="X,Y", help="A pixel of an example; repeat to say it better.")
    ] = None,
    box: Annotated[str | None, typer.Option("--box", metavar="X0,Y0,X1,Y1", help="A box around an example.")] = None,
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
    model: ModelName = "nano",
    device: DeviceName = "auto",
    precision: PrecisionName = "exact",
    out: Annotated[
        Path | None, typer.Option("--out", "-o", metavar="DIR", help="Where the picture goes; by default beside the image.")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print the result as JSON on stdout.")] = False,
) -> None:
    """Count the things in a picture, or those like an example.

    Writes STEM.count.png, in which every counted thing has its number.

    pointcut count nuclei.png --like 120,80
    """
    xy = [list(parse.point(text)) for text in like or []]
    example_box = list(parse.box(box)) if box else None

    from ..automatic.config import adapted_config
    from ..count import count_objects
    from ..segment.segmenter import load

    if out is not None:
        make_folder(out)
    segmenter = load(model, device=device, precision=precision)
    photo = segmenter.encode(image)
    example = photo.segment(points=xy or None, boxes=example_box).best if xy or example_box else None
    config = adapted_config(segmenter.name, {"points_per_side": points, "crop_n_layers": crop_layers})
    with progress_bar(image.name) as progress:
        counted = count_objects(photo, example, config=config, similarity=similarity, min_area=min_area, progress=progress)
    path = (out if out is not None else image.parent) / f"{image.stem}.count.png"

    from ..draw import save

    save(counted.picture(), path)
    if as_json:
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
        emit({"image": str(image), "count": len(counted), "model": segmenter.name, "things": things, "picture": str(path)})
        return
    say(f"{image}: {len(counted)} things" + (" like the example" if example is not None else ""))
    print(len(counted))
    print(path)

"""`pointcut auto`: everything in one or more pictures, in the formats that annotators use."""

from __future__ import annotations

import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from ..errors import PointcutError
from . import parse
from .options import (
    Bands,
    Compiled,
    CropBox,
    DeviceName,
    LongSide,
    MinRegion,
    ModelName,
    Page,
    PrecisionName,
    Scale,
    Side,
    Tile,
    Zoom,
    preparation,
    reading,
)
from .output import emit, failed, leave_if_failed, progress_bar, say

if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import TypeAlias

    from ..automatic.config import AutomaticConfig
    from ..images import Picture, Reading
    from ..pipeline import Preparation
    from ..reading.large import LargePicture
    from ..segment.segmenter import Segmenter
    from ..segments import Segments

    Progress: TypeAlias = Callable[[int, int], None]


def auto(
    images: Annotated[list[Path], typer.Argument(metavar="IMAGE...", help="Pictures to search.")],
    out: Annotated[Path, typer.Option("--out", "-o", metavar="DIR", help="Where results go.")] = Path("out"),
    formats: Annotated[
        str | None,
        typer.Option(
            "--format",
            "-f",
            metavar="LIST",
            help="Of overlay,png,coco,yolo,geojson,labelstudio,labelme,npz,parquet. Default: overlay,coco; with --tile coco.",
        ),
    ] = None,
    page: Page = 0,
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
    compiled: Compiled = False,
    points: Annotated[
        int | None, typer.Option("--points", min=1, max=256, help="Points per side of the grid. Default: 32; nano: 16.")
    ] = None,
    crop_layers: Annotated[int, typer.Option("--crop-layers", min=0, max=4, help="Look again at 4, then 16 crops.")] = 0,
    min_score: Annotated[
        float | None, typer.Option("--min-score", help="The IoU that the model must expect. Default: 0.8; nano: 0.5.")
    ] = None,
    min_stability: Annotated[
        float | None, typer.Option("--min-stability", help="How stable a mask must be. Default: 0.95; nano: 0.7.")
    ] = None,
    min_area: Annotated[int, typer.Option("--min-area", min=0, help="Drop smaller masks (pixels).")] = 0,
    max_area: Annotated[int | None, typer.Option("--max-area", min=1, help="Drop larger masks (pixels).")] = None,
    min_region: MinRegion = 0,
    border: Annotated[
        bool | None, typer.Option("--border/--no-border", help="Only masks that touch the picture's edge, or only others.")
    ] = None,
    duplicates: Annotated[
        str,
        typer.Option(help="Drop duplicates by box (as the reference), by mask, or keep only whole things: box, mask or whole."),
    ] = "mask",
    fast: Annotated[
        bool, typer.Option("--fast", help="Coarse to fine: leave out points within things found already. Finds a little less.")
    ] = False,
    as_json: Annotated[
        bool, typer.Option("--json", help="Print results as JSON on stdout; files are written as well.")
    ] = False,
) -> None:
    """Find everything in pictures, without pointing.

    Writes one file a picture (overlay, png, geojson, labelme, npz, yolo) or one for all (coco, labelstudio) into the folder.
    A picture that cannot be read is reported, and the others are done.

    pointcut auto photos/*.jpg --out found --format overlay,coco,yolo
    """
    if duplicates not in ("box", "mask", "whole"):
        raise typer.BadParameter(f"--duplicates must be box, mask or whole, got {duplicates!r}")

    from ..automatic.config import adapted_config
    from ..export import Record, open_writers
    from ..segment.segmenter import load

    names = parse.names(formats or ("coco" if tile else "overlay,coco"))
    how, prepared = reading(page, scale, bands), preparation(crop, long_side, zoom=zoom)
    if tile:
        _check_tiles(names, duplicates, prepared)
    segmenter = load(model, device=device, precision=precision, side=side, compiled=compiled)
    with open_writers(out, names) as writers:
        changes = {
            "points_per_side": points,
            "pred_iou_thresh": min_score,
            "stability_score_thresh": min_stability,
            "crop_n_layers": crop_layers,
            "min_mask_region_area": min_region,
            "skip_covered": fast,
        }
        config = adapted_config(segmenter.name, changes)
        results: list[dict[str, Any]] = []
        errors: list[PointcutError] = []
        for image in images:
            try:
                started = time.perf_counter()
                with progress_bar(image.name) as progress:
                    cut, picture = (
                        _in_tiles(segmenter, image, how, tile, config, progress)
                        if tile
                        else _at_once(segmenter, image, how, prepared, config, progress)
                    )
                cut = chosen(cut, "box" if tile else duplicates, min_area, max_area, border)  # tiles drop theirs by mask
                files = writers.add(Record(image.name, cut, place=picture.place))
                seconds = time.perf_counter() - started
            except PointcutError as error:
                errors.append(error)
                results.append(failed(image, error))
                continue
            if as_json:
                told = picture.told() | prepared.told() | ({"tile": tile} if tile else {}) | ({"side": side} if side else {})
                results.append(record(image, cut, segmenter.name, files, seconds, nested=not tile) | told)
            else:
                say(f"{image}: {len(cut)} masks in {seconds:.1f} s")
    if as_json:
        emit({"images": results, "files": [str(path) for path in writers.files]})
    else:
        for path in writers.files:
            print(path)
    leave_if_failed(errors, len(images))


def _at_once(
    segmenter: Segmenter, image: Path, how: Reading, prepared: Preparation, config: AutomaticConfig, progress: Progress
) -> tuple[Segments, Picture]:
    """A picture that is read whole."""
    from ..reading import read_picture

    picture = read_picture(image, how)
    return prepared.encode(segmenter, picture.pixels).segment_everything(config, progress), picture


def _in_tiles(
    segmenter: Segmenter, image: Path, how: Reading, side: int, config: AutomaticConfig, progress: Progress
) -> tuple[Segments, LargePicture]:
    """A picture that is read in parts."""
    from ..reading.large import open_large
    from ..tiles import Tiling, everything_in

    with open_large(image, how) as picture:
        return everything_in(segmenter, picture, Tiling(side, side // 4), config, progress), picture


def _check_tiles(formats: list[str], duplicates: str, prepared: Preparation) -> None:
    """What does not go with tiles. Raises a usage error."""
    from ..batch.work import DRAWN

    drawn = [name for name in formats if name in DRAWN]
    if drawn:
        raise typer.BadParameter(f"{drawn[0]} draws the whole picture, which --tile avoids; take --format coco,geojson")
    if duplicates != "mask" or prepared.told():
        raise typer.BadParameter(
            "--tile drops duplicates by mask; it goes without --duplicates, --crop, --long-side and --zoom"
        )


def chosen(cut: Segments, duplicates: str, min_area: int, max_area: int | None, border: bool | None) -> Segments:
    """The masks that were asked for."""
    from ..arrange import select, without_duplicates

    cut = select(cut, min_area=min_area, max_area=max_area, touching_border=border)
    if duplicates == "box":
        return cut
    return without_duplicates(cut, inside=0.9 if duplicates == "whole" else None)


def record(image: Path, cut: Segments, model: str, files: list[Path], seconds: float, *, nested: bool) -> dict[str, Any]:
    """A picture's result for programs. nested: with what each mask is part of, for which every mask is drawn."""
    from ..arrange import parents

    masks = [cut.figures(row) | {"rle": rle} for row, rle in enumerate(cut.rle())]
    if nested:
        for mask, whole in zip(masks, parents(cut).tolist(), strict=True):
            mask["part_of"] = whole if whole >= 0 else None
    return {
        "image": str(image),
        "height": cut.image.shape[0],
        "width": cut.image.shape[1],
        "model": model,
        "masks": masks,
        "files": [str(path) for path in files],
        "seconds": round(seconds, 3),
    }

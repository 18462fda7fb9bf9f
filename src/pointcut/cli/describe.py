"""`pointcut describe`: what a vision-language model says of what is pointed at."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from ..errors import PointcutError
from . import parse
from .batch import fixed
from .options import (
    Ask,
    BackgroundName,
    Concurrency,
    Context,
    DeviceName,
    EndpointAddress,
    ModelName,
    PrecisionName,
    VlmName,
    describing,
)
from .output import emit, fail, failed, leave_if_failed, progress_bar, say

if TYPE_CHECKING:
    from ..batch.inputs import Pointed
    from ..describe import Describer, Description
    from ..segment.segmenter import Segmenter
    from ..segments import Segments


def describe(
    images: Annotated[list[Path], typer.Argument(metavar="IMAGE...", help="Pictures; without a prompt all that is in them.")],
    ask: Ask = None,
    point: Annotated[list[str] | None, typer.Option("--point", metavar="X,Y", help="A pixel of the object; repeats.")] = None,
    not_: Annotated[list[str] | None, typer.Option("--not", metavar="X,Y", help="A pixel that is not it; repeats.")] = None,
    box: Annotated[
        list[str] | None, typer.Option("--box", metavar="X0,Y0,X1,Y1", help="A box around an object; repeats.")
    ] = None,
    endpoint: EndpointAddress = None,
    vlm: VlmName = "",
    background: BackgroundName = "dim",
    context: Context = 0.25,
    concurrency: Concurrency = 4,
    no_cache: Annotated[bool, typer.Option("--no-cache", help="Ask again what was answered before.")] = False,
    out: Annotated[
        Path | None, typer.Option("--out", "-o", metavar="DIR", help="Also write masks and descriptions there.")
    ] = None,
    formats: Annotated[
        str, typer.Option("--format", "-f", metavar="LIST", help="Of those files, see `pointcut auto`.")
    ] = "coco,overlay",
    model: ModelName = "nano",
    device: DeviceName = "auto",
    precision: PrecisionName = "exact",
    as_json: Annotated[bool, typer.Option("--json", help="Print results as JSON on stdout.")] = False,
) -> None:
    """Ask a vision-language model about what you point at.

    The model runs wherever you have it: Ollama, vLLM, llama.cpp, `transformers serve`, a cloud. It is sent a close-up of each
    object and the question, nothing else. An object that it says nothing of is reported, the others are done, and the exit code
    is 1.

    pointcut describe dog.jpg --point 500,375 --ask "What breed is this?" --vlm qwen3-vl
    """
    pointed = fixed(point or [], not_ or [], box or [])
    asked = describing(endpoint, vlm, ask, background, context, concurrency)

    from ..export import Record, open_writers
    from ..segment.segmenter import load

    with asked.open() as describer:
        describer.cache = None if no_cache else describer.cache
        said_of = describer.model  # before anything is computed: is there an endpoint, and which model is meant?
        writers = open_writers(out, parse.names(formats)) if out is not None else None
        segmenter = load(model, device=device, precision=precision)
        results: list[dict[str, Any]] = []
        errors: list[PointcutError] = []
        silent = 0
        for image in images:
            try:
                cut = cut_of(segmenter, image, pointed)
                descriptions = told_as_they_come(describer, image, cut, quiet=as_json)
                files = (
                    writers.add(Record(image.name, cut, descriptions=tuple(d.text for d in descriptions))) if writers else []
                )
            except PointcutError as error:
                errors.append(error)
                results.append(failed(image, error))
                continue
            silent += sum(bool(one.error) for one in descriptions)
            masks = [cut.figures(row) | {"rle": rle} | descriptions[row].told() for row, rle in enumerate(cut.rle())]
            results.append(
                {
                    "image": str(image),
                    "ask": asked.look.ask,
                    "vlm": said_of,
                    "masks": masks,
                    "files": [str(path) for path in files],
                }
            )
        made = writers.close() if writers else []
    if as_json:
        emit({"images": results, "files": [str(path) for path in made]})
    else:
        for path in writers.files if writers else []:
            print(path)
    leave_if_failed(errors, len(images))
    if silent:
        raise typer.Exit(1)


def cut_of(segmenter: Segmenter, image: Path, pointed: Pointed | None) -> Segments:
    """What is pointed at in a picture, or all that is in it, each thing once."""
    from ..arrange import distinct
    from ..reading import read_picture

    photo = segmenter.encode(read_picture(image).pixels)
    if pointed is None:
        with progress_bar(image.name) as progress:
            return distinct(photo.segment_everything(progress=progress))
    return photo.segment(*pointed.prompts_in(photo.size)).best


def told_as_they_come(describer: Describer, image: Path, cut: Segments, *, quiet: bool) -> list[Description]:
    """What is said of each mask; of a single one word by word."""
    if len(cut) == 1 and not quiet:
        return [word_by_word(describer, next(describer.look.pictures(cut)))]
    descriptions = []
    if not len(cut) and not quiet:
        say(f"{image}: nothing was found")
    for row, description in enumerate(describer.each(cut)):
        descriptions.append(description)
        if quiet:
            continue
        if description.error:
            fail(f"{image}, {row + 1} of {len(cut)}: {description.error}")
        else:
            x0, y0, x1, y1 = (round(float(value)) for value in cut.boxes_xyxy[row])
            print(f"{x0},{y0},{x1},{y1}  {' '.join(description.text.split())}", flush=True)
    return descriptions


def word_by_word(describer: Describer, picture: bytes) -> Description:
    from ..describe import Description

    said = ""
    try:
        for piece in describer.stream(picture):
            said += piece
            print(piece, end="", flush=True)
    except PointcutError as error:
        if said:
            print()
        fail(str(error))
        return Description(error=str(error))
    print()
    return Description(said)

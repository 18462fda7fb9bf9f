"""Options that several verbs share."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from ..weights.specs import Precision
from . import parse

if TYPE_CHECKING:
    from ..describe import Describing
    from ..images import Reading
    from ..pipeline import Preparation

ModelName = Annotated[
    str, typer.Option("--model", "-m", help="A model's name (`pointcut models`), a Hub id, or a weight file.")
]
DeviceName = Annotated[str, typer.Option("--device", help="auto, cpu, cuda, cuda:N or mps.")]
PrecisionName = Annotated[
    Precision,
    typer.Option("--precision", help="exact (float32), fast (bfloat16, float16 or int8), auto: fast where safe."),
]
Compiled = Annotated[
    bool,
    typer.Option("--compiled", help="By PyTorch's compiler: for long work on a GPU. It takes a minute or two to begin with."),
]
Side = Annotated[
    int | None,
    typer.Option("--side", metavar="PIXELS", help="Side of the model's square: smaller is faster, less exact. Not SAM 1."),
]
CropBox = Annotated[
    str | None, typer.Option("--crop", metavar="X0,Y0,X1,Y1", help="Look at this part only; results are of the whole picture.")
]
LongSide = Annotated[
    int | None, typer.Option("--long-side", metavar="PIXELS", min=16, help="Make larger pictures smaller for the model.")
]
Zoom = Annotated[
    bool,
    typer.Option(
        "--zoom", help="Draw each mask anew from what is around it: finer, above all small things; one encoding each."
    ),
]
MinRegion = Annotated[
    int, typer.Option("--min-region", metavar="PIXELS", min=0, help="Fill smaller holes and drop smaller islands of masks.")
]
Page = Annotated[int, typer.Option("--page", metavar="N", min=0, help="Of a TIFF with several, or the frame of a DICOM file.")]
Scale = Annotated[
    str | None,
    typer.Option("--scale", metavar="LIMITS", help="Of 16-bit and float values: extent, full, 2%,98% or LOW,HIGH."),
]
Bands = Annotated[
    str | None, typer.Option("--bands", metavar="R,G,B", help="Of a GeoTIFF, from 1: three to be red, green, blue; or one.")
]
Tile = Annotated[
    int | None,
    typer.Option("--tile", metavar="PIXELS", min=64, help="Read and look at large pictures in parts of this side (1024)."),
]
Text = Annotated[str | None, typer.Option("--text", metavar="PHRASES", help='What to look for, as in "a dog. a red ball."')]
DetectorName = Annotated[
    str | None,
    typer.Option("--detector", metavar="NAME[:MODEL]", help="Who finds boxes. Default with --text: grounding-dino."),
]
EndpointAddress = Annotated[
    str | None,
    typer.Option(
        "--endpoint",
        metavar="ADDRESS",
        envvar="POINTCUT_VLM",
        help="Where a vision-language model answers, OpenAI's way; by default Ollama's, here. Secret: POINTCUT_VLM_KEY.",
    ),
]
VlmName = Annotated[
    str,
    typer.Option(
        "--vlm", metavar="NAME", envvar="POINTCUT_VLM_MODEL", help="The model, as the endpoint calls it. Default: its only one."
    ),
]
Ask = Annotated[str | None, typer.Option("--ask", metavar="QUESTION", help="What to ask about each segment.")]
BackgroundName = Annotated[
    str, typer.Option("--background", help="What is beside the object: dim, remove (white), outline (left, red line around).")
]
Context = Annotated[
    float, typer.Option("--context", min=0, max=4, help="How much around it is shown, as a share of its box's longer side.")
]
Concurrency = Annotated[int, typer.Option("--concurrency", min=1, max=64, help="Questions that are open at once.")]
WordsModel = Annotated[
    str | None,
    typer.Option(
        "--words-model",
        metavar="MODEL",
        help="A CLIP or SigLIP, so that the index can be searched by meaning: a Hub id, or a folder.",
    ),
]


def describing(
    address: str | None,
    vlm: str,
    ask: str | None = None,
    background: str = "dim",
    context: float = 0.25,
    concurrency: int = 4,
) -> Describing:
    """Who is asked, and how. Raises InputError."""
    from ..describe import ASK, LOCAL, Describing, Look

    look = Look(ASK if ask is None else ask, background, context)  # type: ignore[arg-type]  # checked there
    return Describing(address or LOCAL, vlm, look, concurrency)


def reading(page: int, scale: str | None, bands: str | None) -> Reading:
    """How files are read. Raises InputError or a usage error."""
    from ..images import Reading
    from ..scaling import Scaling

    try:
        chosen = tuple(int(band) for band in parse.names(bands or ""))
    except ValueError:
        raise typer.BadParameter(f"expected numbers of bands, as in 4,3,2; got {bands!r}") from None
    return Reading(page, Scaling.parse(scale) if scale else None, chosen)


def preparation(crop: str | None, long_side: int | None, *, zoom: bool) -> Preparation:
    """What the model is shown of a picture. Raises InputError or a usage error."""
    from ..pipeline import Preparation

    if crop is None:
        return Preparation(None, long_side, zoom)
    x0, y0, x1, y1 = (round(value) for value in parse.box(crop))
    return Preparation((x0, y0, x1, y1), long_side, zoom)


def detector_name(text: str | None, detector: str | None) -> str | None:
    """The detector that is meant, if any."""
    return detector or ("grounding-dino" if text else None)

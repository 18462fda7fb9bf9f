"""Options that several verbs share."""

from __future__ import annotations

from typing import Annotated

import typer

from ..weights.specs import Precision

ModelName = Annotated[
    str, typer.Option("--model", "-m", help="A model's name (`pointcut models`), a Hub id, or a weight file.")
]
DeviceName = Annotated[str, typer.Option("--device", help="auto, cpu, cuda, cuda:N or mps.")]
PrecisionName = Annotated[
    Precision,
    typer.Option("--precision", help="exact (float32), fast (bfloat16 or float16), auto: fast where safe."),
]

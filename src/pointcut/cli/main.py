"""The command's entry: verbs, common options, and how errors become one line and an exit code.

Exit codes: 0 done; 1 some inputs failed (the others are done); 2 the call itself was wrong; 3 a film broke off
(what came before is done), or pictures of a batch failed (the others are done); 130 interrupted.
"""

from __future__ import annotations

import os
import sys
from typing import Annotated

import typer

from .. import __version__
from ..errors import PointcutError
from . import index, models
from .auto import auto
from .batch import batch
from .bench import bench
from .count import count
from .describe import describe
from .evaluate import evaluate
from .output import fail
from .run import run
from .segment import segment
from .serve import serve
from .track import track

SPIN = "2000"
"""How often a thread that waits for another one looks before it sleeps, in libgomp's counts. Its own default is milliseconds:
two processes on the same cores then steal each other's time, and take more than twice as long as one after the other. So few
cost next to nothing alone, and leave the other process its turn (docs/benchmarks.md)."""

app = typer.Typer(
    name="pointcut",
    help="Point at it, cut it out: segment anything in photographs, offline with the built-in model.",
    no_args_is_help=True,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
app.command(no_args_is_help=True)(segment)
app.command(no_args_is_help=True)(auto)
app.command(no_args_is_help=True)(batch)
app.command(no_args_is_help=True)(count)
app.command(no_args_is_help=True)(track)
app.command(no_args_is_help=True)(describe)
app.command(no_args_is_help=True)(run)
app.command("eval", no_args_is_help=True)(evaluate)
app.command(no_args_is_help=True)(bench)
app.command()(serve)
app.add_typer(index.app, name="index")
app.add_typer(models.app, name="models")


def _version(wanted: bool) -> None:
    if wanted:
        print(f"pointcut {__version__}")
        raise typer.Exit


@app.callback()
def common(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version and leave.")
    ] = False,
) -> None:
    """Options of the command itself."""


def main() -> None:
    """Runs the command and leaves with its exit code."""
    os.environ.setdefault("GOMP_SPINCOUNT", SPIN)  # read when PyTorch is loaded, which is later
    try:
        app()
    except PointcutError as error:
        fail(str(error))
        sys.exit(error.exit_code)
    except BrokenPipeError:  # the reader of our output left, as `head` does
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(0)

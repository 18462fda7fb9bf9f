"""The command's entry: verbs, common options, and how errors become one line and an exit code.

Exit codes: 0 done; 1 some inputs failed (the others are done); 2 the call itself was wrong; 3 a film broke off
(what came before is done), or pictures of a batch failed (the others are done); 130 interrupted.
"""

from __future__ import annotations

import io
import os
import sys
from collections.abc import Callable, Iterable
from typing import Annotated, TypeAlias

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
from .garbage import collect_seldom
from .output import fail
from .run import run
from .segment import segment
from .serve import serve
from .track import track

SPIN = "2000"
"""How often a thread that waits for another one looks before it sleeps, in libgomp's counts. Its own default is milliseconds:
two processes on the same cores then steal each other's time, and take more than twice as long as one after the other. So few
cost next to nothing alone, and leave the other process its turn (docs/benchmarks.md)."""

Verb: TypeAlias = Callable[..., None] | typer.Typer

VERBS: dict[str, Verb] = {
    "segment": segment,
    "auto": auto,
    "batch": batch,
    "count": count,
    "track": track,
    "describe": describe,
    "run": run,
    "eval": evaluate,
    "bench": bench,
    "serve": serve,
    "index": index.app,
    "models": models.app,
}


def _version(wanted: bool) -> None:
    if wanted:
        print(f"pointcut {__version__}")
        raise typer.Exit


def common(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version and leave.")
    ] = False,
) -> None:
    """Options of the command itself."""


def command(names: Iterable[str]) -> typer.Typer:
    """The command with these verbs only: reading the options of all takes a tenth of a second."""
    made = typer.Typer(
        name="pointcut",
        help="Point at it, cut it out: segment anything in photographs, offline with the built-in model.",
        no_args_is_help=True,
        rich_markup_mode=None,
        pretty_exceptions_enable=False,
        context_settings={"help_option_names": ["-h", "--help"]},
    )
    made.callback()(common)
    for name in names:
        verb = VERBS[name]
        if isinstance(verb, typer.Typer):
            made.add_typer(verb, name=name)
        else:
            made.command(name, no_args_is_help=verb is not serve)(verb)
    return made


app = command(VERBS)


def main() -> None:
    """Runs the command and leaves with its exit code."""
    os.environ.setdefault("GOMP_SPINCOUNT", SPIN)  # read when PyTorch is loaded, which is later
    collect_seldom()
    if isinstance(sys.stdout, io.TextIOWrapper):  # names of files come out byte by byte; what a code page lacks, as \u....
        sys.stdout.reconfigure(errors="surrogateescape" if sys.stdout.encoding.lower() == "utf-8" else "backslashreplace")
    asked = [word for word in sys.argv[1:2] if word in VERBS]
    try:
        (command(asked) if asked else app)()
    except PointcutError as error:
        fail(str(error))
        sys.exit(error.exit_code)
    except BrokenPipeError:  # the reader of our output left, as `head` does
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(0)

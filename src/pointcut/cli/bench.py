"""`pointcut bench`: how fast models are on this machine, to choose one by."""

from __future__ import annotations

import os
import time
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from ..errors import InputError
from ..weights.specs import Precision
from .options import DeviceName
from .output import emit, say

if TYPE_CHECKING:
    from ..bench import Timings, Way

COLUMNS = ("load", "first", "encode", "click", "preview")


def bench(
    images: Annotated[list[Path], typer.Argument(metavar="IMAGE...", help="Pictures; the first is timed, all are compared.")],
    models: Annotated[list[str] | None, typer.Option("--model", "-m", help="A model; may be given again.")] = None,
    device: DeviceName = "auto",
    threads: Annotated[int | None, typer.Option("--threads", min=1, help="Of PyTorch, on a CPU.")] = None,
    rounds: Annotated[int, typer.Option("--rounds", min=1, help="How often each is timed; the medians are told.")] = 3,
    compiled: Annotated[
        bool, typer.Option("--compiled", help="Also by PyTorch's compiler: load(..., compiled=True). Takes minutes.")
    ] = False,
    picture: Annotated[
        Path | None, typer.Option("--picture", metavar="FILE", help="Also draw the times, as PNG, SVG or PDF (extra: plot).")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print the figures as JSON, in seconds and megabytes.")] = False,
) -> None:
    """Time models on this machine, and say what `fast` changes.

    Each model and precision has a process of its own, in turn. `cold start` is `pointcut segment`, from typing to files.

    pointcut bench photo.jpg --model nano --model sam2.1-tiny
    """
    from ..bench import Way, cold_start, cost_of_fast, machine, median_of, time_apart
    from ..images import open_image
    from ..plotting import draw_bars, pyplot_or_error

    if picture is not None:
        pyplot_or_error()  # said now, not after the rounds
    names = models or ["nano"]
    height, width = open_image(images[0]).shape[:2]
    precisions: tuple[Precision, ...] = ("exact", "fast")
    ways = [Way(name, precision, c) for name in names for c in (False, True)[: 1 + compiled] for precision in precisions]
    runs: dict[Way, list[Timings]] = {way: [] for way in ways}
    starts: dict[str, list[float]] = {name: [] for name in names}
    for i in range(rounds):
        for way, timings in runs.items():
            say(f"round {i + 1} of {rounds}: {way}")
            try:
                timings.append(time_apart(way, device, threads, images[0]))
            except RuntimeError as error:
                raise InputError(f"{way.model}: {error}") from None
        for name in names:
            starts[name].append(cold_start(name, device, images[0]))
    say("comparing fast with exact")
    costs = {name: cost_of_fast(name, device, images) for name in names}
    if picture is not None:
        draw_bars(drawn(runs, starts), picture, title=f"{machine(device)}, {width}x{height}")
        say(str(picture))
    medians = {key: median_of(timings) for key, timings in runs.items()}
    if as_json:
        rows = [
            {**way._asdict(), **asdict(figures), "cold_start": sorted(starts[way.model])[rounds // 2]}
            for way, figures in medians.items()
        ]
        emit({"machine": machine(device), "rows": rows, "fast": {name: asdict(cost) for name, cost in costs.items()}})
        return
    where = f"{machine(device)}, {threads or os.cpu_count()} threads"
    print(f"{where}, {width}x{height}, {rounds} rounds, {time.strftime('%Y-%m-%d')}\n")
    print(f"| model | precision | {' | '.join(f'{column} (ms)' for column in COLUMNS)} | cold start (s) | peak (MB) |")
    print("|---" * (4 + len(COLUMNS)) + "|")
    for way, figures in medians.items():
        times = " | ".join(f"{1000 * getattr(figures, column):.0f}" for column in COLUMNS)
        cold = f"{sorted(starts[way.model])[rounds // 2]:.1f}" if way == Way(way.model, "exact") else ""
        print(f"| {way.model} | {way.numbers} | {times} | {cold} | {figures.peak_mb:.0f} |")
    for name, cost in costs.items():
        print(
            f"\n{name}: fast ({cost.arithmetic}) against exact over {len(images)} pictures: mean IoU {cost.mean_iou:.4f}, "
            f"worst {cost.worst_iou:.4f}, best candidate another in {100 * cost.changed:.1f} % of the clicks"
        )


def drawn(runs: dict[Way, list[Timings]], starts: dict[str, list[float]]) -> dict[str, dict[str, list[float]]]:
    """For a picture: quantity -> model and precision -> what each round took."""
    panels: dict[str, dict[str, list[float]]] = {}
    for column in ("encode", "click", "preview"):
        for way, timings in runs.items():
            panels.setdefault(f"{column} (ms)", {})[str(way)] = [1000 * getattr(one, column) for one in timings]
    return panels | {"cold start (s)": {f"{name}, exact": seconds for name, seconds in starts.items()}}

"""`pointcut eval`: how well a model does on labelled pictures, beside baselines."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Annotated

import typer

from ..errors import InputError
from ..weights.specs import Precision
from .options import DeviceName, ModelName, PrecisionName
from .output import emit, progress_bar, say


def evaluate(
    data: Annotated[Path, typer.Argument(metavar="DIR", help="Sets as SET/images/X.jpg with SET/masks/X.png.")],
    model: ModelName = "nano",
    device: DeviceName = "auto",
    precision: PrecisionName = "exact",
    every: Annotated[int, typer.Option("--every", min=1, help="Of a video, take every n-th frame.")] = 40,
    automatic: Annotated[
        bool, typer.Option("--automatic", help="Also search every picture without prompts, and say what share is found.")
    ] = False,
    baselines: Annotated[
        bool, typer.Option("--baselines/--no-baselines", help="Beside: the box itself, GrabCut, random weights.")
    ] = True,
    films: Annotated[
        int, typer.Option("--films", min=0, metavar="FRAMES", help="Follow objects through the films among them instead: J&F.")
    ] = 0,
    cut_away: Annotated[
        int,
        typer.Option(
            "--cut-away",
            min=0,
            metavar="FRAMES",
            help="Also interrupt each film by so much of another: is it noticed?",
        ),
    ] = 0,
    sheet: Annotated[Path | None, typer.Option("--sheet", metavar="FILE", help="Draw the worst cases into a picture.")] = None,
    as_json: Annotated[
        bool, typer.Option("--json", help="Print the figures of every set, and of every object, as JSON.")
    ] = False,
) -> None:
    """Judge a model on labelled pictures, beside simple methods.

    Boxes, clicks, corrections, borders, the model's own scores, speed. A mask picture holds 0 for nothing, 1 to 254 for
    objects, 255 for pixels that do not count. Objects of at least 1 % of their picture are asked for.

    pointcut eval photos --automatic --sheet worst.png
    """
    from ..draw import save
    from ..evaluate.contenders import BoxItself, Contender, GrabCut, Model, random_network
    from ..evaluate.data import examples
    from ..evaluate.measure import evaluate as judge_all
    from ..evaluate.report import markdown, table, worst_cases
    from ..segment.segmenter import load

    if films:
        follow_films(data, films, cut_away, model, device, precision, baselines, as_json)
        return
    if cut_away:
        raise InputError("--cut-away interrupts films: say how many frames of each with --films FRAMES")
    pictures = list(examples(data, every))
    own = Model(model, load(model, device=device, precision=precision))
    contenders: list[Contender] = [own]
    if baselines:
        contenders += [random_network(own.segmenter), BoxItself(), GrabCut()]
    started = time.perf_counter()
    with progress_bar("judging") as progress:
        rows = judge_all(contenders, pictures, automatic=automatic, progress=progress)
    sets = table(rows)
    if sheet is not None:
        save(worst_cases(own, rows, pictures), sheet)
    if as_json:
        emit({"model": model, "sets": sets, "objects": rows})
        return
    print(markdown(sets))
    say(f"{len(rows) // len(contenders)} objects, {time.perf_counter() - started:.0f} s")
    if sheet is not None:
        print(sheet)


def follow_films(
    data: Path, frames: int, cut_away: int, model: str, device: str, precision: Precision, baselines: bool, as_json: bool
) -> None:
    """Judges tracking: from the first frame's mask and from one click."""
    from ..evaluate import absence, video
    from ..segment.segmenter import load

    segmenter = load(model, device=device, precision=precision)
    followers: list[video.Follower] = [video.FromMask(segmenter), video.FromClick(segmenter)]
    if baselines:
        followers += [video.Repeated(), video.OpticalFlow()]
    films = list(video.films(data, frames))
    with progress_bar("following") as progress:
        rows = video.judge_films(followers, films, progress)
    gone = []
    if cut_away:
        with progress_bar("interrupting") as progress:
            gone = absence.judge_absences(followers, films, cut_away, progress)
    if as_json:
        emit({"model": model, "films": rows} | ({"absence": gone} if cut_away else {}))
        return
    print(video.films_table(rows))
    if cut_away:
        print(f"\n{absence.absence_table(gone)}")

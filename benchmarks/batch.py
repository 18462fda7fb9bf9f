"""`pointcut batch` beside a plain loop over the library: the same pictures, model, box and files; and memory over many.

python benchmarks/batch.py [--pictures 200] [--rounds 2] [--many 5000] [--model nano]
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import time
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import psutil
from PIL import Image

import pointcut
from pointcut import draw
from pointcut.automatic.config import default_config
from pointcut.batch.inputs import Pointed, tasks_in
from pointcut.batch.processes import engine_for
from pointcut.batch.run import run_batch
from pointcut.batch.work import BatchJob

PHOTO = Path(__file__).parents[1] / "examples" / "photos" / "astronaut.jpg"
BOX = (150.0, 10.0, 305.0, 195.0)


@dataclass(frozen=True)
class Case:
    """What is done with every picture, by both."""

    name: str
    scale: int
    """Times 512 pixels a side."""
    share: float
    """Of the pictures that are asked for: larger ones take longer."""
    everything: bool = False
    overlay: bool = False
    """Written as well, to look at."""


CASES = (
    Case("512 x 512, a box", 1, 1.0),
    Case("3072 x 3072 (9 million pixels, as telephones take them), a box", 6, 0.2),
    Case("the same, and an overlay of each", 6, 0.2, overlay=True),
    Case("512 x 512, everything (8 x 8 points)", 1, 0.2, everything=True),
)


def album(folder: Path, pictures: int, scale: int = 1) -> Path:
    """JPEGs, each another."""
    folder.mkdir()
    base = np.asarray(Image.open(PHOTO).resize((512 * scale, 512 * scale)))
    for i in range(pictures):
        Image.fromarray(np.roll(base, i % 64, axis=1)).save(folder / f"{i:05d}.jpg", quality=90)
    return folder


def plain(model: pointcut.Segmenter, folder: Path, out: Path, case: Case) -> float:
    """Seconds of the loop that everybody writes."""
    out.mkdir()
    config = replace(default_config(model.name), points_per_side=8)
    box = [value * case.scale for value in BOX]
    began = time.perf_counter()
    for path in sorted(folder.iterdir()):
        photo = model.encode(path)
        cut = photo.segment_everything(config) if case.everything else photo.segment(boxes=box)
        Image.fromarray(pointcut.label_map(cut).astype(np.uint16)).save(out / f"{path.stem}.png")
        if case.overlay:
            draw.mosaic(cut.image, pointcut.label_map(cut), [("head", 0, 0)]).save(out / f"{path.stem}.overlay.png")
    return time.perf_counter() - began


def compare(model: pointcut.Segmenter, folder: Path, case: Case, pictures: int, rounds: int) -> None:
    """Prints one row of the table."""
    source = album(folder / "pictures", pictures, case.scale)
    box = tuple(value * case.scale for value in BOX)
    pointed = None if case.everything else Pointed(boxes=(box,), names=("head",))
    search = (("points_per_side", 8),) if case.everything else ()
    job = BatchJob(model.name, "exact", ("png", "overlay") if case.overlay else ("png",), pointed, search)
    rates: dict[str, list[float]] = {"plain": [], "batch": []}
    for i in range(rounds):
        rates["plain"].append(pictures / plain(model, source, folder / f"plain{i}", case))
        report = run_batch(
            tasks_in([str(source)]), job, folder / f"batch{i}", device="cpu", engine=engine_for(job, "cpu", None)
        )
        rates["batch"].append(report.rate)
    work = sum(report.where.values())
    shares = ", ".join(f"{name} {100 * seconds / work:.0f} %" for name, seconds in report.where.items())
    cells = [f"{statistics.median(found):.1f} ({min(found):.1f} to {max(found):.1f})" for found in rates.values()]
    ratio = statistics.median(rates["batch"]) / statistics.median(rates["plain"])
    print(f"| {case.name} | {cells[0]} | {cells[1]} | {ratio:.2f} | {shares} |", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--pictures", type=int, default=200)
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--many", type=int, default=0, help="pictures for the memory (0: not measured)")
    parser.add_argument("--model", default="nano")
    asked = parser.parse_args()
    model = pointcut.load(asked.model, device="cpu")
    model.encode(PHOTO).segment(boxes=BOX)
    print("| pictures | plain loop, a second | pointcut batch, a second | times | work of the batch |\n|---|---|---|---|---|")
    for case in CASES:
        with tempfile.TemporaryDirectory(prefix="pointcut-bench-") as folder:
            compare(model, Path(folder), case, max(4, round(asked.pictures * case.share)), asked.rounds)
    if asked.many:
        with tempfile.TemporaryDirectory(prefix="pointcut-bench-") as folder:
            memory(Path(folder), asked.model, asked.many)


def memory(folder: Path, model: str, pictures: int) -> None:
    """Prints what the process takes over many pictures."""
    many = album(folder / "many", pictures)
    process, seen = psutil.Process(), {}

    def watch(done: int, _: int, __: int) -> None:
        if done in {100, 500, 1000, 2500} or done == pictures:
            seen[done] = process.memory_info().rss / 1e6

    job = BatchJob(model, "exact", ("png",), Pointed(boxes=(BOX,), names=("head",)))
    report = run_batch(tasks_in([str(many)]), job, folder / "all", device="cpu", progress=watch)
    text = ", ".join(f"{rss:.0f} MB after {done}" for done, rss in seen.items())
    print(f"\nMemory: {text}; {report.rate:.1f} pictures a second")


if __name__ == "__main__":
    main()

"""`pointcut batch` beside a plain loop over the library: the same pictures, model, box and files; and memory over many.

python benchmarks/batch.py [--pictures 200] [--rounds 2] [--many 5000] [--model nano]
"""

from __future__ import annotations

import argparse
import shutil
import statistics
import tempfile
import time
from pathlib import Path

import numpy as np
import psutil
from PIL import Image

import pointcut
from pointcut.batch.inputs import Pointed, tasks_in
from pointcut.batch.run import run_batch
from pointcut.batch.work import BatchJob

PHOTO = Path(__file__).parents[1] / "examples" / "photos" / "astronaut.jpg"
BOX = (150.0, 10.0, 305.0, 195.0)


def album(folder: Path, pictures: int) -> Path:
    """JPEGs of 512 x 512, each another."""
    folder.mkdir()
    base = np.asarray(Image.open(PHOTO))
    for i in range(pictures):
        Image.fromarray(np.roll(base, i % 64, axis=1)).save(folder / f"{i:05d}.jpg", quality=90)
    return folder


def plain(model: pointcut.Segmenter, folder: Path, out: Path) -> float:
    """Seconds of the loop that everybody writes."""
    out.mkdir()
    began = time.perf_counter()
    for path in sorted(folder.iterdir()):
        cut = model.encode(path).segment(boxes=BOX)
        cut.best.save(out / f"{path.stem}.mask.png")
    return time.perf_counter() - began


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--pictures", type=int, default=200)
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--many", type=int, default=0, help="pictures for the memory (0: not measured)")
    parser.add_argument("--model", default="nano")
    asked = parser.parse_args()
    folder = Path(tempfile.mkdtemp(prefix="pointcut-bench-"))
    try:
        pictures = album(folder / "pictures", asked.pictures)
        job = BatchJob(asked.model, "exact", ("png",), Pointed(boxes=(BOX,), names=("head",)))
        model = pointcut.load(asked.model, device="cpu")
        model.encode(PHOTO).segment(boxes=BOX)
        rates: dict[str, list[float]] = {"plain loop": [], "pointcut batch": []}
        for i in range(asked.rounds):
            rates["plain loop"].append(asked.pictures / plain(model, pictures, folder / f"plain{i}"))
            report = run_batch(tasks_in([str(pictures)]), job, folder / f"batch{i}", device="cpu")
            rates["pointcut batch"].append(report.rate)
        print("| | pictures a second |\n|---|---|")
        for name, found in rates.items():
            print(f"| {name} | {statistics.median(found):.1f} ({min(found):.1f} to {max(found):.1f}) |")
        ratio = statistics.median(rates["pointcut batch"]) / statistics.median(rates["plain loop"])
        work = sum(report.where.values())
        shares = ", ".join(f"{name} {100 * seconds / work:.0f} %" for name, seconds in report.where.items())
        print(f"\n{ratio:.2f} times; loading the model is counted to the batch. Work: {shares}")
        if asked.many:
            many = album(folder / "many", asked.many)
            process, seen = psutil.Process(), {}

            def watch(done: int, _: int, __: int) -> None:
                if done in {100, 500, 1000, 2500} or done == asked.many:
                    seen[done] = process.memory_info().rss / 1e6

            report = run_batch(tasks_in([str(many)]), job, folder / "all", device="cpu", progress=watch)
            text = ", ".join(f"{rss:.0f} MB after {done}" for done, rss in seen.items())
            print(f"\nMemory: {text}; {report.rate:.1f} pictures a second")
    finally:
        shutil.rmtree(folder)


if __name__ == "__main__":
    main()

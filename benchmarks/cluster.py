"""Pictures a second on Ray beside the local engine, and what a million pictures cost at such rates.

python benchmarks/cluster.py [--pictures 200] [--price 0.05]

The price is yours to say: of one processor core for an hour. Cores are those that the machine tells of, here as on a cluster.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from pathlib import Path

from batch import BOX, album
from pointcut.batch.inputs import Pointed, tasks_in
from pointcut.batch.on_ray import PICTURES, ray_engine
from pointcut.batch.run import cores, run_batch
from pointcut.batch.work import BatchJob
from speed import random_weights

HEAD = Pointed(boxes=(BOX,), names=("head",))


def rate_of(pictures: Path, job: BatchJob, folder: Path, few: int, many: int, *, on_ray: bool) -> float:
    """Pictures a second of a run that is under way: what a longer run takes more than a shorter one."""
    spent = []
    for count in (few, many):
        engine = ray_engine(None, "cpu", None) if on_ray else None
        began = time.perf_counter()
        run_batch(
            tasks_in([str(pictures)])[:count],
            job,
            folder / f"{'ray' if on_ray else 'local'}{count}",
            device="cpu",
            engine=engine,
        )
        spent.append(time.perf_counter() - began)
    return (many - few) / (spent[1] - spent[0])


def jobs(folder: Path) -> dict[str, tuple[BatchJob, float]]:
    """By name: the job, and the share of the pictures that it is given."""
    tiny = folder / "tiny"
    random_weights(tiny)  # they take as long as trained ones
    search = (("points_per_side", 16),)
    return {
        "nano, a box": (BatchJob("nano", "exact", ("parquet",), HEAD), 1.0),
        "nano, everything (16 x 16 points)": (BatchJob("nano", "exact", ("parquet",), None, search), 0.1),
        "SAM 2.1 tiny, a box": (BatchJob(str(tiny), "exact", ("parquet",), HEAD), 0.1),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--pictures", type=int, default=200)
    parser.add_argument("--price", type=float, default=0.05)
    asked = parser.parse_args()
    print(
        f"| work | local, pictures a second | Ray, pictures a second | a million: core hours | at {asked.price:g} a core hour |"
    )
    print("|---|---|---|---|---|")
    with tempfile.TemporaryDirectory(prefix="pointcut-bench-") as place:
        folder = Path(place)
        for i, (name, (job, share)) in enumerate(jobs(folder).items()):
            few, many = PICTURES, max(4 * PICTURES, round(asked.pictures * share))
            pictures, out = album(folder / f"pictures{i}", many), folder / f"out{i}"
            local, ray = (rate_of(pictures, job, out, few, many, on_ray=on_ray) for on_ray in (False, True))
            hours = 1e6 / ray / 3600 * cores()
            print(f"| {name} | {local:.1f} | {ray:.1f} | {hours:.0f} | {hours * asked.price:.2f} |", flush=True)


if __name__ == "__main__":
    main()

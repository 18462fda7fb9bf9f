"""Two commands at once on the same cores, with libgomp's own patience and with ours (`cli.main.SPIN`).

python benchmarks/neighbours.py [--photo examples/photos/rocket.jpg] [--rounds 2]
"""

from __future__ import annotations

import argparse
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from pointcut.cli.main import SPIN

PHOTO = Path(__file__).parents[1] / "examples" / "photos" / "rocket.jpg"


def seconds(photo: Path, patience: str, at_once: int) -> float:
    """For as many searches of everything, each a process of its own."""
    environment = os.environ | {"GOMP_SPINCOUNT": patience}
    with tempfile.TemporaryDirectory(prefix="pointcut-bench-") as folder:
        began = time.perf_counter()
        jobs = [
            subprocess.Popen(
                [sys.executable, "-m", "pointcut", "auto", str(photo), "--points", "16", "--out", f"{folder}/{i}"],
                env=environment,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
            )
            for i in range(at_once)
        ]
        for job in jobs:
            if job.wait():
                raise SystemExit("a command failed")
        return time.perf_counter() - began


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--photo", type=Path, default=PHOTO)
    parser.add_argument("--rounds", type=int, default=2)
    asked = parser.parse_args()
    seconds(asked.photo, SPIN, 1)
    print("| GOMP_SPINCOUNT | one command (s) | two at once (s) |\n|---|---|---|")
    for name, patience in (("300000, libgomp's own", "300000"), (f"{SPIN}, as the command has it", SPIN)):
        one, two = (statistics.median(seconds(asked.photo, patience, n) for _ in range(asked.rounds)) for n in (1, 2))
        print(f"| {name} | {one:.1f} | {two:.1f} |", flush=True)


if __name__ == "__main__":
    main()

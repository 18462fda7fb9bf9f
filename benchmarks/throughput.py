"""Many pictures: `python benchmarks/throughput.py [--pictures N] [--size WxH]`: read, encode, one click, one mask written.

A plain loop against `Segmenter.encode_each`, in turn, with the built-in model, and the process's memory on the way.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from PIL import Image

import pointcut
from pointcut.ahead import ahead
from pointcut.bench import machine, resident_megabytes
from speed import photograph


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--pictures", type=int, default=40)
    parser.add_argument("--size", default="1800x1200")
    parser.add_argument("--rounds", type=int, default=3)
    args = parser.parse_args()
    width, height = (int(n) for n in args.size.split("x"))
    model = pointcut.load("nano", device="cpu")
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        source = folder / "photo.jpg"
        Image.fromarray(photograph((width, height))).save(source, quality=90)
        pictures = [source] * args.pictures

        def cut(photo: pointcut.EncodedImage) -> pointcut.Segments:
            return photo.segment(points=[(width / 2, height / 2)]).best

        def write(best: pointcut.Segments) -> Path:
            return best.save(folder / "out.mask.png")

        def plain() -> None:
            for picture in pictures:
                write(cut(model.encode(picture)))

        def overlapped() -> None:
            for _ in ahead(write, (cut(photo) for photo in model.encode_each(pictures))):
                pass

        ways: dict[str, Callable[[], None]] = {"plain loop": plain, "overlapped": overlapped}
        rates: dict[str, list[float]] = {way: [] for way in ways}
        memory = []
        for _ in range(args.rounds):
            for way, run in ways.items():
                started = time.perf_counter()
                run()
                rates[way].append(args.pictures / (time.perf_counter() - started))
                memory.append(resident_megabytes())
    print(
        f"{machine()}, nano, {args.pictures} JPEG of {args.size}, {args.rounds} rounds in turn, {time.strftime('%Y-%m-%d')}\n"
    )
    print("| | pictures a second |\n|---|---|")
    for way, values in rates.items():
        print(f"| {way} | {statistics.median(values):.1f} ({min(values):.1f} to {max(values):.1f}) |")
    done = 2 * args.rounds * args.pictures
    print(
        f"\nResident memory after the first {args.pictures} pictures {memory[0]:.0f} MB, after all {done} {memory[-1]:.0f} MB."
    )


if __name__ == "__main__":
    main()

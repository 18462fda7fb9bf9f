"""Times products of matrices: `python benchmarks/products.py [--threads N]`.

What a CPU could do at best, and by which of PyTorch's libraries: MKL (`x @ y` in float32), oneDNN (what
`pointcut.nets.processor` asks where MKL is slow), and bfloat16. The shapes are those of SAM 2.1 tiny: a wide layer, attention,
and a click's upscaling.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable

import torch

from pointcut.bench import machine, seconds
from pointcut.nets import processor
from pointcut.segment.devices import keep_freed_memory

SHAPES = {"a wide layer": (2048, 384, 1536), "scores": (512, 96, 4096), "seen": (512, 4096, 96), "upscaling": (4096, 64, 128)}
REPEATS = 30


def rate(multiply: Callable[[], object], operations: int) -> str:
    """GFLOP/s, at the median of many."""
    return f"{operations / seconds(multiply, REPEATS) / 1e9:.0f}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--threads", type=int, default=2)
    torch.set_num_threads(parser.parse_args().threads)
    keep_freed_memory()
    with torch.inference_mode():
        chosen = "oneDNN" if processor.mkl_is_slow() else "MKL"
        print(f"{machine()}, {torch.get_num_threads()} threads, {time.strftime('%Y-%m-%d')}; Pointcut asks {chosen}; GFLOP/s\n")
        print("| | M, K, N | MKL | oneDNN | bfloat16 |\n|---|---|---|---|---|")
        for name, (m, k, n) in SHAPES.items():
            x, y = torch.randn(m, k), torch.randn(k, n)
            short_x, short_y = x.bfloat16(), y.bfloat16()
            ways: list[Callable[[], object]] = [
                lambda x=x, y=y: x @ y,
                lambda x=x, y=y: processor.by_onednn(x, y),
                lambda x=short_x, y=short_y: x @ y,
            ]
            print(f"| {name} | {m}, {k}, {n} | {' | '.join(rate(way, 2 * m * k * n) for way in ways)} |")


if __name__ == "__main__":
    main()

"""Follows clips drawn anew with several weight files: `python training/nano/compare_memories.py --data DIR WEIGHTS...`.

To choose a memory before it is judged on films: all get the same clips, from a seed that no training had, their objects told by
a mask and by a click. The table says how much what was found is like the object, in what share of the frames that hold it it is
denied, and in what share of the others that it is gone is noticed.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from itertools import islice
from pathlib import Path
from typing import Literal

import torch
from safetensors.torch import load_file

from clips import ClipBatches, Clips
from pointcut.nets.sam2 import Sam2
from tracking import Beginning, follow
from train import resize
from train_memory import network_with_memory

HEADER = "| weights | told by | loss | IoU | there, and denied | gone, and noticed |\n|---|---|---|---|---|---|"
WAYS: tuple[Literal["mask", "click"], ...] = ("mask", "click")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("weights", type=Path, nargs="+")
    parser.add_argument("--data", type=Path, required=True, help="folder of training sets")
    parser.add_argument("--side", type=int, default=480)
    parser.add_argument("--clips", type=int, default=60)
    parser.add_argument("--frames", type=int, default=8)
    parser.add_argument("--seed", type=int, default=987654)
    args = parser.parse_args()
    drawn = list(islice(ClipBatches(args.data, args.side, 3, args.frames, args.seed), -(-args.clips // 3)))
    print(HEADER)
    for path in args.weights:
        net = network_with_memory(load_file(path))
        resize(net, args.side)
        for way in WAYS:
            print(f"| {path.parent.name} | {way} | {row(net, drawn, way)} |", flush=True)


@torch.no_grad()
def row(net: Sam2, drawn: Sequence[Clips], way: Literal["mask", "click"]) -> str:
    followed = [follow(net, clips, Beginning(way)) for clips in drawn]
    likeness, present, found = (torch.cat(part, 1) for part in list(zip(*followed, strict=True))[1:])
    loss = torch.stack([one.loss for one in followed]).mean()
    figures = loss, likeness[present].mean(), 1 - found[present].float().mean(), 1 - found[~present].float().mean()
    return " | ".join(f"{figure:.3f}" for figure in figures)


if __name__ == "__main__":
    main()

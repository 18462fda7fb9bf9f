"""Averages two weight files: `python training/nano/mix.py FIRST SECOND --share 0.6 --out FILE` (share: the second's).

Between two legs of one training the average knows less of the training pictures than the second, and is meant to do better on
other pictures (Izmailov et al., "Averaging Weights Leads to Wider Optima and Better Generalization"; Wortsman et al., "Robust
fine-tuning of zero-shot models"). Both must have the same tensors; batch norm's statistics are averaged with the rest. Only
blocks that changed nothing when they were given to the second (`begin_with` in train.py) may be missing in the first.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file

from pointcut.files import replacing
from train import GIVEN


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("first", type=Path)
    parser.add_argument("second", type=Path)
    parser.add_argument("--share", type=float, required=True)
    parser.add_argument("--out", type=Path, required=True)
    args = parser.parse_args()
    mix(args.first, args.second, args.share, args.out)


def mix(first: Path, second: Path, share: float, out: Path) -> None:
    """Writes `out`, with the second's metadata."""
    if not 0 <= share <= 1:
        raise SystemExit(f"--share is from 0 (the first alone) to 1, got {share}")
    one, other = load_file(first), load_file(second)
    one |= {name: at_first(name, value) for name, value in other.items() if name.startswith(GIVEN) and name not in one}
    differing = [
        name
        for name in one.keys() | other.keys()
        if name not in one or name not in other or one[name].shape != other[name].shape
    ]
    if differing:
        raise SystemExit(
            f"{first} and {second} differ in {len(differing)} tensors, {min(differing)} first: mix legs of one network"
        )
    mixed = {name: between(value, other[name], share) for name, value in one.items()}
    with safe_open(second, "pt") as file:
        metadata = file.metadata()
    out.parent.mkdir(parents=True, exist_ok=True)
    with replacing(out) as temporary:
        save_file(mixed, temporary, metadata)


def at_first(name: str, learnt: torch.Tensor) -> torch.Tensor:
    """What a block that changes nothing has there: no share of its answer is added."""
    return torch.zeros_like(learnt) if name.endswith(".gamma") else learnt


def between(one: torch.Tensor, other: torch.Tensor, share: float) -> torch.Tensor:
    """What is counted, and not learnt, is the second's."""
    return one.float().lerp(other.float(), share).to(other.dtype) if other.is_floating_point() else other


if __name__ == "__main__":
    main()

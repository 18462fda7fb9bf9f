"""Trains the built-in model from nothing: `python training/nano/train.py --data DIR --out DIR [--phase ...]`.

Reads photographs (see photos.py), writes `state.pt` (everything needed to go on, every two minutes), `log.jsonl`, and
`nano.safetensors` (the averaged weights) into --out. Started again with the same --out it goes on where it stopped.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import time
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.data import DataLoader

from batches import Batch, Batches, Mixture
from interaction import interaction_loss
from muon import MuonAndAdamW
from pointcut.nets.convnet import ConvNet
from pointcut.nets.layers import cells_across
from pointcut.nets.processor import multiplies_bfloat16
from pointcut.nets.sam2 import NANO, Sam2
from pointcut.segment.devices import keep_freed_memory
from telling import Teller

WEIGHT_DECAY = 0.03

GIVEN = ("image_encoder.fuser.", "mask_decoder.border_fuser.")
"""How the names of blocks begin that earlier legs had not; new, they change nothing (`Sam2Config.fuser_depth`,
`DecoderConfig.border_depth`)."""


@dataclass(frozen=True)
class Phase:
    """A stretch of the schedule at one resolution."""

    side: int
    pictures: int
    minutes: float
    composites: float = 0.5
    """The share of pictures that get things pasted over them; less at the end, so that scores fit real photographs."""

    @classmethod
    def parse(cls, text: str) -> Phase:
        """SIDE:PICTURES:MINUTES[:COMPOSITES]."""
        side, pictures, minutes, *rest = text.split(":")
        return cls(int(side), int(pictures), float(minutes), *map(float, rest))


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, required=True, help="folder of training sets")
    parser.add_argument("--out", type=Path, required=True, help="where state and weights go; an earlier state there is resumed")
    parser.add_argument(
        "--phase",
        action="append",
        help="SIDE:PICTURES:MINUTES[:COMPOSITES], repeat; default 256:16:60 384:8:30 512:6:22 (2 CPU cores)",
    )
    parser.add_argument(
        "--start-from", type=Path, help="weights (safetensors) of an earlier run to begin with; default: nothing"
    )
    parser.add_argument("--objects", type=int, default=3, help="objects asked for in each picture")
    parser.add_argument("--lr", type=float, default=8e-4)
    parser.add_argument(
        "--told", type=float, default=0.0, help="weight of the loss for what the embedding is off a teacher's (telling.py)"
    )
    parser.add_argument("--optimiser", choices=("adamw", "muon"), default="adamw")
    parser.add_argument("--seed", type=int, default=20261120)
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--workers", type=int, default=1)
    parser.add_argument("--stop-after", type=float, default=math.inf, help="minutes: save and leave, to be resumed")
    return parser.parse_args()


class Trainer:
    """Network, optimiser, average and clock; `state.pt` holds them all."""

    def __init__(self, args: argparse.Namespace) -> None:
        self.args = args
        phases = args.phase or ["256:16:60", "384:8:30", "512:6:22"]
        self.phases = [Phase.parse(text) for text in phases]
        self.total = 60 * sum(p.minutes for p in self.phases)
        self.device = torch.device(args.device)
        if self.device.type == "cpu":
            keep_freed_memory()
        torch.manual_seed(args.seed)
        images_only = replace(NANO, memory=None)  # the memory is taught afterwards: train_memory.py
        self.net = images_only.build().to(self.device, memory_format=torch.channels_last)
        if args.start_from:
            begin_with(self.net, load_file(args.start_from, device=str(self.device)), new=GIVEN)
        if self.device.type == "cpu":
            spare_slow_kernels(self.net)
        self.teller = Teller(NANO.prompts.width, args.data, args.told).to(self.device)
        learning = nn.ModuleList([self.net, self.teller])
        self.optimiser = MuonAndAdamW(learning, args.lr, WEIGHT_DECAY) if args.optimiser == "muon" else adamw(learning, args.lr)
        self.average = {k: v.clone() for k, v in self.net.state_dict().items()}
        self.step, self.seconds = 0, 0.0
        self.path = args.out / "state.pt"
        args.out.mkdir(parents=True, exist_ok=True)
        if self.path.exists():
            self.resume()

    def resume(self) -> None:
        state = torch.load(self.path, map_location=self.device, weights_only=True)
        self.net.load_state_dict(state["net"])
        self.teller.load_state_dict(state["teller"])
        self.optimiser.load_state_dict(state["optimiser"])
        self.average, self.step, self.seconds = state["average"], state["step"], state["seconds"]
        print(f"resumed at step {self.step}, {self.seconds / 60:.1f} min", flush=True)

    def save(self) -> None:
        state = {
            "net": self.net.state_dict(),
            "teller": self.teller.state_dict(),
            "optimiser": self.optimiser.state_dict(),
            "average": self.average,
            "step": self.step,
            "seconds": self.seconds,
        }
        temporary = self.path.with_suffix(".tmp")
        torch.save(state, temporary)
        os.replace(temporary, self.path)
        weights = {k: v.half().contiguous() if v.is_floating_point() else v for k, v in self.average.items()}
        save_file(weights, self.args.out / "nano.tmp", metadata={"format": "pointcut", "model": "nano", "step": str(self.step)})
        os.replace(self.args.out / "nano.tmp", self.args.out / "nano.safetensors")

    def run(self) -> None:
        started, spent, saved = time.monotonic(), self.seconds, time.monotonic()
        begin = 0.0
        for phase in self.phases:
            end = begin + 60 * phase.minutes
            if self.seconds >= end:
                begin = end
                continue
            resize(self.net, phase.side)
            for batch in self.batches(phase):
                self.seconds = spent + time.monotonic() - started
                if self.seconds >= end or (time.monotonic() - started) / 60 >= self.args.stop_after:
                    break
                self.train_step(batch, phase)
                if time.monotonic() - saved > 120:
                    self.save()
                    saved = time.monotonic()
            begin = end
            if (time.monotonic() - started) / 60 >= self.args.stop_after:
                break
        self.save()

    def batches(self, phase: Phase) -> DataLoader:
        mixture = Mixture(composites=phase.composites)
        data = Batches(self.args.data, phase.side, phase.pictures, self.args.objects, self.args.seed + self.step, mixture)
        return DataLoader(
            data, batch_size=None, num_workers=self.args.workers, prefetch_factor=3 if self.args.workers else None
        )

    def train_step(self, batch: Batch, phase: Phase) -> None:
        progress = min(1.0, self.seconds / self.total)
        warm = min(1.0, (self.step + 1) / 200)
        for group in self.optimiser.param_groups:
            group["lr"] = self.args.lr * warm * (0.01 + 0.99 * 0.5 * (1 + math.cos(math.pi * progress)))
        rng = np.random.default_rng([self.args.seed, self.step])
        self.net.train()
        with narrower(self.device), attention_kernel(self.device):
            loss, report = interaction_loss(self.net, Batch(*(x.to(self.device) for x in batch)), rng, self.teller)
        self.optimiser.zero_grad(set_to_none=True)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(self.net.parameters(), 1.0)
        self.optimiser.step()
        self.step += 1
        self.update_average()
        if self.step % 20 == 0:
            row = {"step": self.step, "minutes": round(self.seconds / 60, 2), "side": phase.side, "loss": round(loss.item(), 4)}
            with (self.args.out / "log.jsonl").open("a") as log:
                log.write(json.dumps(row | report) + "\n")

    @torch.no_grad()
    def update_average(self) -> None:
        keep = min(0.9985, (1 + self.step) / (10 + self.step))
        for name, value in self.net.state_dict().items():
            if value.is_floating_point():
                self.average[name].lerp_(value, 1 - keep)
            else:
                self.average[name].copy_(value)


def begin_with(net: Sam2, weights: dict[str, Tensor], new: str | tuple[str, ...]) -> None:
    """Loads an earlier run's image network. Names that begin with `new` may be missing there: a memory still to be taught, or
    blocks that change nothing at first (`GIVEN`)."""
    weights = {name: value for name, value in weights.items() if not name.startswith("memory.")}
    missing, unexpected = net.load_state_dict(weights, strict=False)
    wrong = [name for name in missing if not name.startswith(new)] + unexpected
    if wrong:
        raise SystemExit(f"not weights of this network: {', '.join(wrong[:5])}")


def resize(net: Sam2, side: int) -> None:
    """The network holds nothing that depends on its input's size but two numbers."""
    for module in (net, net.prompt_encoder):
        module.input_size = side
    net.prompt_encoder.side = cells_across(side, net.config.stride)


def spare_slow_kernels(net: Sam2) -> None:
    """Leaves to float32 what a CPU's bfloat16 kernels take three to sixty times as long for, backwards: weights of convolutions
    with a stride, of few cells, or of very few channels (PyTorch 2.13, AVX-512 BF16; figures in README.md)."""
    trunk = net.image_encoder.trunk
    assert isinstance(trunk, ConvNet)
    downs = [stage.get_submodule("down") for stage in trunk.stages]
    for module in (trunk.stem, *downs, trunk.stages[-1].get_submodule("blocks"), net.prompt_encoder.mask_downscaling):
        module.forward = partial(in_float32, module.forward)  # type: ignore[method-assign]


def in_float32(forward: Callable[[Tensor], Tensor], x: Tensor) -> Tensor:
    with torch.autocast(x.device.type, enabled=False):
        return forward(x.float())


def narrower(device: torch.device) -> AbstractContextManager[None]:
    """Products in bfloat16, but on a CPU that would imitate it in more than twice float32's time."""
    return torch.autocast(device.type, torch.bfloat16, enabled=device.type != "cpu" or multiplies_bfloat16())


def attention_kernel(device: torch.device) -> AbstractContextManager[None]:
    """On a CPU plain products: the fused kernel's way back takes five times as long for the few tokens of a prompt."""
    return sdpa_kernel(SDPBackend.MATH) if device.type == "cpu" else nullcontext()


def adamw(net: nn.Module, lr: float) -> torch.optim.AdamW:
    """Biases, norms and single values do not decay."""
    decay, plain = ([p for p in net.parameters() if (p.ndim > 1) == matrix] for matrix in (True, False))
    groups = [{"params": decay, "weight_decay": WEIGHT_DECAY}, {"params": plain, "weight_decay": 0.0}]
    return torch.optim.AdamW(groups, lr=lr, betas=(0.9, 0.98), fused=True)


if __name__ == "__main__":
    Trainer(parse()).run()

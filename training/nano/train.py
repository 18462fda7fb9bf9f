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
import torch.nn.functional as F
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.data import DataLoader

from batches import Batch, Batches, Mixture
from losses import corrective_clicks, mask_losses, target_of, true_ious
from muon import MuonAndAdamW
from pointcut.images import MEAN, STD
from pointcut.nets.convnet import ConvNet
from pointcut.nets.decoder import MASK_TOKENS, ImageFeatures, ImageSide
from pointcut.nets.processor import multiplies_bfloat16
from pointcut.nets.prompts import FOREGROUND, Prompts
from pointcut.nets.sam2 import NANO, Sam2
from pointcut.segment.devices import keep_freed_memory
from telling import Teller

WEIGHT_DECAY = 0.03


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
            begin_with(self.net, load_file(args.start_from, device=str(self.device)), new=".rises.")
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
            self.resize(phase.side)
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

    def resize(self, side: int) -> None:
        """The network holds nothing that depends on its input's size but two numbers; a new one shares the parameters."""
        for module in (self.net, self.net.prompt_encoder):
            module.input_size = side
        self.net.prompt_encoder.side = side // 16

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


def begin_with(net: Sam2, weights: dict[str, Tensor], new: str) -> None:
    """Loads an earlier run's image network. What has `new` in its name may be missing there: a memory still to be taught, or
    the way up (`ConvNet.rises`), which changes nothing at first."""
    weights = {name: value for name, value in weights.items() if not name.startswith("memory.")}
    missing, unexpected = net.load_state_dict(weights, strict=False)
    wrong = [name for name in missing if new not in name] + unexpected
    if wrong:
        raise SystemExit(f"not weights of this network: {', '.join(wrong[:5])}")


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


def interaction_loss(net: Sam2, batch: Batch, rng: np.random.Generator, teller: Teller) -> tuple[Tensor, dict[str, float]]:
    """One picture encoded, every object asked for by a click or box, then looked at again or corrected with the last logits."""
    objects = batch.masks.shape[1]
    mean, std = (torch.tensor(x, device=batch.images.device).view(1, 3, 1, 1) for x in (MEAN, STD))
    pixels = (batch.images.float() / 255 - mean) / std
    features = net.encode(pixels.contiguous(memory_format=torch.channels_last))
    each = ImageFeatures(
        features.embedding.repeat_interleave(objects, 0),
        tuple(x.repeat_interleave(objects, 0) for x in features.high_res),
    )
    target = target_of(batch.masks.flatten(0, 1))
    by_box = rng.random() < 0.4
    points = labels = boxes = None
    if by_box:
        boxes = batch.boxes.flatten(0, 1)
    else:
        points = batch.clicks.flatten(0, 1)[:, None]
        labels = torch.full(points.shape[:2], FOREGROUND, device=points.device)
    moves = moves_from(rng)
    previous: Tensor | None = None
    worth = torch.ones(len(target.share), device=pixels.device)
    loss, report = torch.zeros((), device=pixels.device), {}
    for i, move in enumerate(moves):
        logits, scores, presence = all_masks(net, each, Prompts(points, labels, boxes, previous))
        losses, ious = mask_losses(logits, target), true_ious(logits, target)
        ambiguous = i == 0 and not by_box
        single, best = (losses[:, 0] * worth).mean(), (losses[:, 1:].min(1).values * worth).mean()
        loss = loss + (0.5 * single + best if ambiguous else single + 0.5 * best) + 0.03 * losses[:, 1:].mean()
        loss = loss + 1.5 * F.mse_loss(scores.float(), ious) + 0.01 * F.softplus(-presence.float()).mean()
        kind = "box" if by_box else "click"
        report[f"{kind}{i}{move}"] = round((ious[:, 1:].max(1).values if ambiguous else ious[:, 0]).mean().item(), 3)
        if i + 1 == len(moves):
            break
        again = moves[i + 1] == "again"
        chosen, worth = torch.zeros_like(scores[:, 0], dtype=torch.long), torch.ones_like(worth)
        if ambiguous and again:
            chosen, worth = to_look_at(ious, rng)
        elif ambiguous:
            chosen = 1 + scores[:, 1:].argmax(1)
        previous = net.limited(logits.detach().float()[torch.arange(len(chosen)), chosen][:, None])
        if not again:
            xy, label = corrective_clicks(previous[:, 0], target)
            points = xy if points is None else torch.cat([points, xy], dim=1)
            labels = label if labels is None else torch.cat([labels, label], dim=1)
    loss = loss / len(moves)
    if teller.weight:
        off = teller.loss(features.embedding, batch.told)
        report["told"] = round(off.item(), 3)
        loss = loss + teller.weight * off
    return loss, report


def moves_from(rng: np.random.Generator) -> list[str]:
    """What is done to a batch: the `first` prompt, half of the time a second look (`again`), and up to five further clicks."""
    clicks = int(rng.choice(6, p=[0.4, 0.28, 0.14, 0.1, 0.05, 0.03]))
    return ["first", *["again"] * (rng.random() < 0.5), *["click"] * clicks]


def to_look_at(ious: Tensor, rng: np.random.Generator) -> tuple[Tensor, Tensor]:
    """Which of a click's candidates (N,) get a second look: mostly the right one, else any, so that the score of a wrong one is
    learnt, too; and (N,) 1 where that can become the object, 0 where it is another thing, which it is to stay."""
    best, right = ious[:, 1:].max(1)
    any_of_three = torch.from_numpy(rng.integers(0, 3, len(ious))).to(ious.device)
    chosen = 1 + torch.where(torch.from_numpy(rng.random(len(ious)) < 0.6).to(ious.device), right, any_of_three)
    worth = ious.gather(1, chosen[:, None])[:, 0] >= best - 0.1
    return chosen, worth.float()


def all_masks(net: Sam2, features: ImageFeatures, prompts: Prompts) -> tuple[Tensor, Tensor, Tensor]:
    """Logits (N, 4, h, w), scores (N, 4), presence (N, 1) of N objects, each with its own features."""
    encoder, decoder = net.prompt_encoder, net.mask_decoder
    tokens = encoder(prompts)
    image: ImageSide = decoder.image_side(features, tokens.dense, encoder.dense_positions())
    decoded = decoder.decode(image, tokens.sparse)
    logits = decoder.draw(image, decoded, range(MASK_TOKENS))
    return logits, decoded.scores, decoded.object_score


if __name__ == "__main__":
    Trainer(parse()).run()

"""Teaches the built-in model to track: `python training/nano/train_memory.py --data DIR --out DIR --start-from WEIGHTS`.

Only the memory is trained (encoder, attention, pointers), and the decoder's small head that says whether the object is there;
the masks of single images stay bit for bit what they were. Reads photographs and one film (see clips.py); writes `state.pt`
every two minutes, `log.jsonl`, and `nano.safetensors` (image network and averaged memory) into --out. Started again with the
same --out it goes on where it stopped.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import time
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor
from torch.utils.data import DataLoader

from clips import ClipBatches, Clips
from pointcut.nets.memory import MASK_SCALE, MASK_SHIFT, Memory
from pointcut.nets.sam2 import NANO, Sam2
from pointcut.segment.devices import keep_freed_memory
from tracking import Beginning, follow
from train import attention_kernel, begin_with, narrower, resize

TAUGHT = ("memory.", "mask_decoder.pred_obj_score_head.")
"""How the names of the trained parameters begin."""


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument(
        "--start-from", type=Path, required=True, help="weights of the image network, and of the memory if they hold one"
    )
    parser.add_argument(
        "--memory-from",
        type=Path,
        help="weights whose memory and head for presence to go on with, over an image network trained since",
    )
    parser.add_argument("--minutes", type=float, default=50)
    parser.add_argument("--side", type=int, default=480)
    parser.add_argument("--clips", type=int, default=3)
    parser.add_argument("--frames", type=int, default=8)
    parser.add_argument("--lr", type=float, default=6e-4)
    parser.add_argument("--seed", type=int, default=20261121)
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--workers", type=int, default=1)
    return parser.parse_args()


class MemoryTrainer:
    """Network, optimiser, average and clock; `state.pt` holds what changes."""

    def __init__(self, args: argparse.Namespace) -> None:
        self.args = args
        self.device = torch.device(args.device)
        if self.device.type == "cpu":
            keep_freed_memory()
        torch.manual_seed(args.seed)
        self.start = load_file(args.start_from, device=str(self.device))
        if args.memory_from:
            earlier = load_file(args.memory_from, device=str(self.device))
            self.start |= {name: value for name, value in earlier.items() if name.startswith(TAUGHT)}
        self.net = network_with_memory(self.start).to(self.device)
        for name, parameter in self.net.named_parameters():
            parameter.requires_grad_(name.startswith(TAUGHT))
        taught = [p for p in self.net.parameters() if p.requires_grad]
        self.optimiser = torch.optim.AdamW(taught, lr=args.lr, betas=(0.9, 0.98), weight_decay=0.02)
        self.average = {k: v.clone() for k, v in self.taught.items()}
        self.step, self.seconds = 0, 0.0
        args.out.mkdir(parents=True, exist_ok=True)
        self.path = args.out / "state.pt"
        if self.path.exists():
            state = torch.load(self.path, map_location=self.device, weights_only=True)
            self.net.load_state_dict(state["taught"], strict=False)
            self.optimiser.load_state_dict(state["optimiser"])
            self.average, self.step, self.seconds = state["average"], state["step"], state["seconds"]
            print(f"resumed at step {self.step}, {self.seconds / 60:.1f} min", flush=True)
        resize(self.net, args.side)

    @property
    def taught(self) -> dict[str, Tensor]:
        return {name: value for name, value in self.net.state_dict().items() if name.startswith(TAUGHT)}

    def save(self) -> None:
        state = {
            "taught": self.taught,
            "optimiser": self.optimiser.state_dict(),
            "average": self.average,
            "step": self.step,
            "seconds": self.seconds,
        }
        torch.save(state, self.path.with_suffix(".tmp"))
        os.replace(self.path.with_suffix(".tmp"), self.path)
        weights = self.start | {k: v.half().contiguous() for k, v in self.average.items()}
        metadata = {"format": "pointcut", "model": "nano", "memory_steps": str(self.step)}
        save_file(weights, self.args.out / "nano.tmp", metadata=metadata)
        os.replace(self.args.out / "nano.tmp", self.args.out / "nano.safetensors")

    def run(self) -> None:
        data = ClipBatches(self.args.data, self.args.side, self.args.clips, self.args.frames, self.args.seed + self.step)
        started, spent, saved = time.monotonic(), self.seconds, time.monotonic()
        for clips in DataLoader(data, batch_size=None, num_workers=self.args.workers):
            self.seconds = spent + time.monotonic() - started
            if self.seconds >= 60 * self.args.minutes:
                break
            self.train_step(clips)
            if time.monotonic() - saved > 120:
                self.save()
                saved = time.monotonic()
        self.save()

    def train_step(self, clips: Clips) -> None:
        progress = min(1.0, self.seconds / (60 * self.args.minutes))
        for group in self.optimiser.param_groups:
            group["lr"] = (
                self.args.lr * min(1.0, (self.step + 1) / 100) * (0.01 + 0.99 * 0.5 * (1 + math.cos(math.pi * progress)))
            )
        rng = np.random.default_rng([self.args.seed, self.step])
        with narrower(self.device), attention_kernel(self.device):
            followed = follow(self.net, Clips(*(x.to(self.device) for x in clips)), Beginning.drawn(rng))
        self.optimiser.zero_grad(set_to_none=True)
        followed.loss.backward()
        torch.nn.utils.clip_grad_norm_([p for p in self.net.parameters() if p.requires_grad], 1.0)
        self.optimiser.step()
        self.step += 1
        keep = min(0.998, (1 + self.step) / (10 + self.step))
        with torch.no_grad():
            for name, value in self.taught.items():
                self.average[name].lerp_(value, 1 - keep)
        if self.step % 20 == 0:
            row = {"step": self.step, "minutes": round(self.seconds / 60, 2), "loss": round(followed.loss.item(), 4)}
            row["right"] = [round(right, 3) for right in followed.right.mean(1).tolist()]
            with (self.args.out / "log.jsonl").open("a") as log:
                log.write(json.dumps(row) + "\n")


def network_with_memory(weights: dict[str, Tensor]) -> Sam2:
    """Of weights that may lack the memory: it begins then."""
    net = NANO.build()
    begin_with(net, weights, new="memory.")
    begin(net.remembering)
    learnt = {k.removeprefix("memory."): v for k, v in weights.items() if k.startswith("memory.")}
    if learnt:
        net.remembering.load_state_dict(learnt)
    return net.eval()


def begin(memory: Memory) -> None:
    """First values where PyTorch's would be zeros or too timid."""
    for embedding in (memory.maskmem_tpos_enc, memory.no_mem_pos_enc, memory.no_obj_ptr):
        torch.nn.init.normal_(embedding, std=0.02)
    torch.nn.init.constant_(memory.mask_downsample.weight, MASK_SCALE / memory.mask_downsample.weight.numel())
    torch.nn.init.constant_(memory.mask_downsample.bias, MASK_SHIFT)
    for block in memory.memory_encoder.fuser.layers:
        torch.nn.init.constant_(block.gamma, 0.1)


if __name__ == "__main__":
    MemoryTrainer(parse()).run()

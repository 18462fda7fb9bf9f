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
import torch.nn.functional as F
from safetensors.torch import load_file, save_file
from torch import Tensor
from torch.utils.data import DataLoader

from clips import ClipBatches, Clips
from losses import mask_losses, target_of, true_ious
from pointcut.nets.decoder import ImageFeatures
from pointcut.nets.following import ABSENT
from pointcut.nets.memory import MASK_SCALE, MASK_SHIFT, Memory
from pointcut.nets.prompts import FOREGROUND, PADDING, Prompts
from pointcut.nets.sam2 import NANO, Sam2
from pointcut.pixels import normalisation
from pointcut.segment.devices import keep_freed_memory
from train import attention_kernel, begin_with, narrower

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
    parser.add_argument("--side", type=int, default=384)
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
        self.net = NANO.build().to(self.device)
        self.start = load_file(args.start_from, device=str(self.device))
        if args.memory_from:
            earlier = load_file(args.memory_from, device=str(self.device))
            self.start |= {name: value for name, value in earlier.items() if name.startswith(TAUGHT)}
        begin_with(self.net, self.start, new="memory.")
        self.net.eval()
        for name, parameter in self.net.named_parameters():
            parameter.requires_grad_(name.startswith(TAUGHT))
        begin(self.memory)
        learnt = {k.removeprefix("memory."): v for k, v in self.start.items() if k.startswith("memory.")}
        if learnt:
            self.memory.load_state_dict(learnt)
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
        for module in (self.net, self.net.prompt_encoder):
            module.input_size = args.side
        self.net.prompt_encoder.side = args.side // 16

    @property
    def memory(self) -> Memory:
        assert self.net.memory is not None
        return self.net.memory

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
            loss, ious = tracking_loss(self.net, self.memory, Clips(*(x.to(self.device) for x in clips)), rng)
        self.optimiser.zero_grad(set_to_none=True)
        loss.backward()
        torch.nn.utils.clip_grad_norm_([p for p in self.net.parameters() if p.requires_grad], 1.0)
        self.optimiser.step()
        self.step += 1
        keep = min(0.998, (1 + self.step) / (10 + self.step))
        with torch.no_grad():
            for name, value in self.taught.items():
                self.average[name].lerp_(value, 1 - keep)
        if self.step % 20 == 0:
            row = {"step": self.step, "minutes": round(self.seconds / 60, 2), "loss": round(loss.item(), 4), "ious": ious}
            with (self.args.out / "log.jsonl").open("a") as log:
                log.write(json.dumps(row) + "\n")


def begin(memory: Memory) -> None:
    """First values where PyTorch's would be zeros or too timid."""
    for embedding in (memory.maskmem_tpos_enc, memory.no_mem_pos_enc, memory.no_obj_ptr):
        torch.nn.init.normal_(embedding, std=0.02)
    torch.nn.init.constant_(memory.mask_downsample.weight, MASK_SCALE / memory.mask_downsample.weight.numel())
    torch.nn.init.constant_(memory.mask_downsample.bias, MASK_SHIFT)
    for block in memory.memory_encoder.fuser.layers:
        torch.nn.init.constant_(block.gamma, 0.1)


def tracking_loss(net: Sam2, memory: Memory, clips: Clips, rng: np.random.Generator) -> tuple[Tensor, list[float]]:
    """The first frame is given by its mask or by a click; on each further one the object is found and remembered as found."""
    batch, frames = clips.images.shape[:2]
    mean, std = normalisation(clips.images.device)
    with torch.no_grad():
        seen = net.encode_frame((clips.images.flatten(0, 1).float() / 255 - mean) / std)
    embeddings, *high_res = (x.unflatten(0, (batch, frames)).unbind(1) for x in (seen.embedding, *seen.high_res))
    each = [ImageFeatures(embedding, tuple(rest)) for embedding, *rest in zip(embeddings, *high_res, strict=True)]
    there = torch.ones(batch, 1, device=clips.images.device)
    nothing = Prompts(
        points=torch.zeros(batch, 1, 2, device=there.device), labels=torch.full((batch, 1), PADDING, device=there.device)
    )
    first = (clips.masks[:, 0] == 1).float()[:, None]
    bare = each[0]
    loss, ious, told = torch.zeros((), device=there.device), [], rng.random()
    if told < 0.5:
        logits, _, token, _ = candidates(net, bare, nothing._replace(masks=memory.mask_downsample(first)), [0])
        known = first
    else:
        said = clicked(clips) if told < 0.85 else boxed(first)
        alone = net.unremembered(bare)
        logits, scores, token, at_first = candidates(net, alone, said, [1, 2, 3])
        logits, _ = best_of(logits, scores, token)
        logits, _, token, at_last = candidates(net, alone, said._replace(masks=net.limited(logits)), [0])
        loss = loss + 0.3 * (F.softplus(-at_first) + F.softplus(-at_last)).mean()  # what is pointed at is there
        known = at_full_size(logits, clips.images.shape[-1]).sigmoid() if rng.random() < 0.5 else first
    bank = [memory.remember(bare.embedding, known, there)]
    pointers = [memory.pointer(token[:, 0], there)]
    since, apart = long_ago(rng)
    for t in range(1, frames):
        slots = [(0, bank[0]), *((t - i, bank[i]) for i in range(1, t))]
        times = [(since + apart * t, pointers[0]), *((apart * (t - i), pointers[i]) for i in range(1, t))]
        begun = memory.begin(each[t].embedding)
        size = seen.embedding.shape[2:]
        embedding = memory.recall(begun, size, memory.recollect(size, slots, times, 15))
        logits, scores, tokens, presence = candidates(net, each[t]._replace(embedding=embedding), nothing, [1, 2, 3])
        target = target_of(clips.masks[:, t])
        present = (clips.masks[:, t] == 1).flatten(1).any(1).float()  # (B,)
        loss = loss + 0.3 * F.binary_cross_entropy_with_logits(presence[:, 0], present)
        losses, truth = mask_losses(logits, target), true_ious(logits, target)
        # Nothing says which candidate is meant, so all should be the object; the one that is taken counts most.
        taken = losses.gather(1, scores.argmax(1, keepdim=True))[:, 0]
        wrong = taken + 0.5 * losses.mean(1) + 0.3 * (scores.float() - truth).square().mean(1)
        loss = loss + (wrong * present).sum() / present.sum().clamp(min=1)
        logits, token = best_of(logits, scores, tokens)
        right = (presence[:, 0] > 0) == (present > 0)
        ious.append(round(torch.where(present > 0, true_ious(logits, target)[:, 0], right.float()).mean().item(), 3))
        # What follows is built on what was found, mistakes included, as it will be.
        found = (presence > 0).float()
        logits = torch.where(presence[..., None, None] > 0, logits, ABSENT)
        bank.append(memory.remember(each[t].embedding, at_full_size(logits, clips.images.shape[-1]).sigmoid(), found))
        pointers.append(memory.pointer(token[:, 0], found))
    return loss / (frames - 1), ious


def long_ago(rng: np.random.Generator) -> tuple[int, int]:
    """How many frames longer ago the first frame is said to be than a clip is long, and how many lie between two pointers.

    A film's pointers reach back fifteen frames, and as far as its prompt; a clip's would never be older than the clip.
    """
    return int(rng.integers(1, 60)) if rng.random() < 0.5 else 0, int(rng.integers(1, 3))


def clicked(clips: Clips) -> Prompts:
    """One click in each clip's object."""
    labels = torch.full((len(clips.clicks), 1), FOREGROUND, device=clips.clicks.device)
    return Prompts(points=clips.clicks[:, None], labels=labels)


def boxed(masks: Tensor) -> Prompts:
    """The box of each mask (B, 1, S, S)."""
    places = torch.arange(masks.shape[-1], device=masks.device, dtype=torch.float32)
    corners = []
    for axis in (2, 3):  # columns, rows
        there = masks.amax(axis)[:, 0] > 0  # (B, S)
        corners.append((torch.where(there, places, torch.inf).amin(1), torch.where(there, places, -1).amax(1) + 1))
    (x0, x1), (y0, y1) = corners
    return Prompts(boxes=torch.stack([x0, y0, x1, y1], dim=1))


def candidates(net: Sam2, features: ImageFeatures, prompts: Prompts, which: list[int]) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Some of the four masks, each picture with its own prompt.

    Returns logits (B, K, h, w), scores (B, K), tokens (B, K, C), and the logit that there is an object at all (B, 1).
    """
    encoder, decoder = net.prompt_encoder, net.mask_decoder
    tokens = encoder(prompts)
    image = decoder.image_side(features, tokens.dense, encoder.dense_positions())
    decoded = decoder.decode(image, tokens.sparse)
    logits = decoder.draw(image, decoded, which)
    assert decoded.object_score is not None
    return logits.float(), decoded.scores[:, which], decoded.mask_tokens[:, which], decoded.object_score.float()


def best_of(logits: Tensor, scores: Tensor, tokens: Tensor) -> tuple[Tensor, Tensor]:
    """The candidate with the highest score of each picture: (B, 1, h, w), (B, 1, C)."""
    rows, best = torch.arange(len(scores), device=scores.device), scores.argmax(1)
    return logits[rows, best][:, None], tokens[rows, best][:, None]


def at_full_size(logits: Tensor, side: int) -> Tensor:
    return F.interpolate(logits, (side, side), mode="bilinear", align_corners=False)


if __name__ == "__main__":
    MemoryTrainer(parse()).run()

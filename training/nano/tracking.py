"""What a step of train_memory.py teaches: to follow what was pointed at through a clip, and to say when it is gone.

Letters: B clips of T frames of S x S pixels, K candidates, h and w of the logits.
"""

from __future__ import annotations

from typing import Literal, NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from clips import Clips
from interaction import candidates, normalised
from losses import mask_losses, target_of, true_ious
from pointcut.nets.decoder import ImageFeatures
from pointcut.nets.following import ABSENT
from pointcut.nets.layers import bilinear
from pointcut.nets.prompts import FOREGROUND, Prompts
from pointcut.nets.sam2 import Sam2


class Beginning(NamedTuple):
    """How a clip's object is told, and how long ago that is said to be."""

    by: Literal["mask", "click", "box"]
    """What the first frame comes with."""
    as_found: bool = True
    """Whether a click or box is remembered with the mask that was found, or with the true one."""
    since: int = 0
    """How many frames longer ago the first frame is said to be than it is: a film's pointers reach back as far as its prompt;
    a clip's would never be older than the clip."""
    apart: int = 1
    """How many frames are said to lie between two pointers: a film has fifteen of them."""

    @classmethod
    def drawn(cls, rng: np.random.Generator) -> Beginning:
        by = ("mask", "click", "box")[rng.choice(3, p=[0.5, 0.35, 0.15])]
        since = int(rng.integers(1, 60)) if rng.random() < 0.5 else 0
        return cls(by, bool(rng.random() < 0.5), since, int(rng.integers(1, 3)))


class Followed(NamedTuple):
    """How B clips were followed, from their second frame on."""

    loss: Tensor
    likeness: Tensor
    """(T - 1, B) the IoU of what was found with the object; anything where there is none."""
    present: Tensor
    """(T - 1, B) bool: the object is there."""
    found: Tensor
    """(T - 1, B) bool: it was said to be."""

    @property
    def right(self) -> Tensor:
        """(T - 1, B): IoU where the object is there; elsewhere 1 if that was said, else 0."""
        return torch.where(self.present, self.likeness, (~self.found).float())


def follow(net: Sam2, clips: Clips, beginning: Beginning) -> Followed:
    """The first frame is told; on each further one the object is found by memory alone, and remembered as found."""
    frames = frames_of(net, clips)
    first, there = frames[0], torch.ones(len(clips.images), 1, device=clips.images.device)
    memory, nothing = net.remembering, net.unprompted().repeated(len(there))
    known, token, loss = told(net, first, clips, beginning)
    bank, pointers = [memory.remember(first.embedding, known, there)], [memory.pointer(token[:, 0], there)]
    course = []
    for t, frame in enumerate(frames[1:], 1):
        slots = [(0, bank[0]), *((t - i, bank[i]) for i in range(1, t))]
        apart = beginning.apart
        times = [(beginning.since + apart * t, pointers[0]), *((apart * (t - i), pointers[i]) for i in range(1, t))]
        size = frame.embedding.shape[2:]
        embedding = memory.recall(memory.begin(frame.embedding), size, memory.recollect(size, slots, times, 15))
        logits, scores, tokens, presence = candidates(net, frame._replace(embedding=embedding), nothing, [1, 2, 3])
        target = target_of(clips.masks[:, t])
        present = (clips.masks[:, t] == 1).flatten(1).any(1).float()  # (B,)
        loss = loss + 0.3 * F.binary_cross_entropy_with_logits(presence[:, 0], present)
        losses, truth = mask_losses(logits, target), true_ious(logits, target)
        # Nothing says which candidate is meant, so all should be the object; the one that is taken counts most.
        taken = losses.gather(1, scores.argmax(1, keepdim=True))[:, 0]
        wrong = taken + 0.5 * losses.mean(1) + 0.3 * (scores.float() - truth).square().mean(1)
        loss = loss + (wrong * present).sum() / present.sum().clamp(min=1)
        logits, token = best_of(logits, scores, tokens)
        found = (presence > 0).float()
        course.append((true_ious(logits, target)[:, 0], present > 0, found[:, 0] > 0))
        # What follows is built on what was found, mistakes included, as it will be.
        logits = torch.where(found[..., None, None] > 0, logits, ABSENT)
        bank.append(memory.remember(frame.embedding, remembered(net, logits).sigmoid(), found))
        pointers.append(memory.pointer(token[:, 0], found))
    return Followed(loss / len(course), *(torch.stack(part).detach() for part in zip(*course, strict=True)))


@torch.no_grad()
def frames_of(net: Sam2, clips: Clips) -> list[ImageFeatures]:
    """T frames, each of B clips."""
    size = clips.images.shape[:2]
    seen = net.encode_frame(normalised(clips.images.flatten(0, 1)))
    embeddings, *high_res = (x.unflatten(0, size).unbind(1) for x in (seen.embedding, *seen.high_res))
    return [ImageFeatures(embedding, tuple(rest)) for embedding, *rest in zip(embeddings, *high_res, strict=True)]


def told(net: Sam2, frame: ImageFeatures, clips: Clips, beginning: Beginning) -> tuple[Tensor, Tensor, Tensor]:
    """The first frame's mask (B, 1, 16h, 16w) as it is remembered, the object's token (B, 1, C), and a loss: what is pointed at
    is there."""
    true = (clips.masks[:, 0] == 1).float()[:, None]
    mask = (remembered(net, true) >= 0.5).float()
    if beginning.by == "mask":
        said = net.unprompted().repeated(len(mask))._replace(masks=net.remembering.mask_downsample(mask))
        _, _, token, _ = candidates(net, frame, said, [0])
        return mask, token, torch.zeros((), device=mask.device)
    said = clicked(clips) if beginning.by == "click" else boxed(true)
    alone = net.unremembered(frame)
    logits, scores, token, at_first = candidates(net, alone, said, [1, 2, 3])
    logits, _ = best_of(logits, scores, token)
    logits, _, token, at_last = candidates(net, alone, said._replace(masks=net.limited(logits)), [0])
    found = remembered(net, logits).sigmoid()
    return found if beginning.as_found else mask, token, 0.3 * (F.softplus(-at_first) + F.softplus(-at_last)).mean()


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


def best_of(logits: Tensor, scores: Tensor, tokens: Tensor) -> tuple[Tensor, Tensor]:
    """The candidate with the highest score of each picture: (B, 1, h, w), (B, 1, C)."""
    rows, best = torch.arange(len(scores), device=scores.device), scores.argmax(1)
    return logits[rows, best][:, None], tokens[rows, best][:, None]


def remembered(net: Sam2, masks: Tensor) -> Tensor:
    """(B, 1, h, w) -> of the size in which masks are remembered."""
    return bilinear(masks, (net.mask_size, net.mask_size))

"""What a step of train.py teaches: to answer a prompt, to look at the answer again, and to take corrections.

Letters: B pictures, K objects of each, N = B * K, M other things that clicks on them may mean, h and w of the logits.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from batches import Batch
from losses import Target, corrective_clicks, mask_losses, target_of, true_ious
from pointcut.nets.decoder import MASK_TOKENS, ImageFeatures
from pointcut.nets.prompts import FOREGROUND, Prompts
from pointcut.nets.sam2 import Sam2
from pointcut.pixels import normalisation
from telling import Teller

OTHERS = 0.4
"""The weight of each other thing that a click may mean, beside the object that it was made for."""

AGAIN = 0.25
"""The share of the others whose first answer gets a second look."""

PATIENT = 0.15
"""The share of batches that are corrected often, and learn from the last answer only."""


class Others(NamedTuple):
    """M things that the clicks on N objects may mean besides."""

    of: Tensor
    """(M,) the object whose click it is."""
    target: Target
    """(M, h, w)."""
    count: Tensor
    """(M,) bool: a mask of it is as good as one of the object, for nobody said which was meant."""


def interaction_loss(net: Sam2, batch: Batch, rng: np.random.Generator, teller: Teller) -> tuple[Tensor, dict[str, float]]:
    """One picture encoded, every object asked for by a click or box, then looked at again or corrected with the last logits."""
    objects = batch.masks.shape[1]
    features = encoded(net, batch.images)
    each = for_each(features, objects)
    target = judged = target_of(batch.masks.flatten(0, 1))
    by_box = rng.random() < 0.4
    points, labels, boxes = first_prompts(batch, by_box)
    moves, quiet = moves_from(rng)
    previous: Tensor | None = None
    worth = torch.ones(len(target.share), device=batch.images.device)
    loss, report = torch.zeros_like(worth[0]), {}
    for i, move in enumerate(moves):
        with torch.set_grad_enabled(i >= quiet):
            logits, scores, _, presence = candidates(
                net, each, Prompts(points, labels, boxes, previous), list(range(MASK_TOKENS))
            )
        ious, ambiguous = true_ious(logits, judged), i == 0 and not by_box
        if i >= quiet:
            others, fits = None, ious
            if ambiguous:
                others = things_besides(batch, target)
                theirs = true_ious(logits[others.of], others.target)  # (M, 4)
                fits = best_fits(ious, theirs, others)
            loss = loss + wrong_masks(logits, target, worth, others)
            loss = loss + 1.5 * F.mse_loss(scores, fits) + 0.01 * F.softplus(-presence).mean()
        kind = "box" if by_box else "click"
        report[f"{kind}{i}{move}"] = round((ious[:, 1:].max(1).values if ambiguous else ious[:, 0]).mean().item(), 3)
        if i + 1 == len(moves):
            break
        again = moves[i + 1] == "again"
        chosen, worth = torch.zeros_like(scores[:, 0], dtype=torch.long), torch.ones_like(worth)
        judged = target
        if ambiguous and again:
            chosen = to_look_at(ious, rng)
            target, fit = most_like(chosen, target, ious, others, theirs)
            worth = (fit >= ious[:, 1:].max(1).values - 0.1).float()
            asked = batch.by_people.repeat_interleave(objects)[:, None, None]
            judged = Target(torch.where(asked, judged.share, target.share), target.known)
        elif ambiguous:
            chosen = 1 + scores[:, 1:].argmax(1)
        previous = net.limited(logits.detach().float()[torch.arange(len(chosen)), chosen][:, None])
        if not again:
            xy, label = corrective_clicks(previous[:, 0], target, batch.images.shape[-1])
            points = xy if points is None else torch.cat([points, xy], dim=1)
            labels = label if labels is None else torch.cat([labels, label], dim=1)
    loss = loss / (len(moves) - quiet)
    if teller.weight:
        off = teller.loss(features.embedding, batch.told)
        report["told"] = round(off.item(), 3)
        loss = loss + teller.weight * off
    return loss, report


def wrong_masks(logits: Tensor, target: Target, worth: Tensor, others: Others | None) -> Tensor:
    """Of the four masks (N, 4, h, w). The single one counts most; or after an ambiguous click, which may mean `others`, the
    best of the candidates, and each other thing wants one."""
    losses = mask_losses(logits, target)
    single, best = losses[:, 0], losses[:, 1:].min(1).values
    wrong = single + 0.5 * best if others is None else 0.5 * single + best
    loss = (wrong * worth).mean() + 0.03 * losses[:, 1:].mean()
    if others is None:
        return loss
    return loss + OTHERS * mask_losses(logits[others.of, 1:], others.target).min(1).values.sum() / len(losses)


def encoded(net: Sam2, images: Tensor) -> ImageFeatures:
    """(B, 3, S, S) uint8 -> the features of all."""
    return net.encode(normalised(images).contiguous(memory_format=torch.channels_last))


def normalised(images: Tensor) -> Tensor:
    """(B, 3, S, S) uint8 -> float32, as the network takes pixels."""
    mean, std = normalisation(images.device)
    return (images.float() / 255 - mean) / std


def for_each(features: ImageFeatures, objects: int) -> ImageFeatures:
    """Of B pictures -> of the N objects on them."""
    embedding, *finer = (x.repeat_interleave(objects, 0) for x in (features.embedding, *features.high_res))
    return ImageFeatures(embedding, tuple(finer))


def first_prompts(batch: Batch, by_box: bool) -> tuple[Tensor | None, Tensor | None, Tensor | None]:
    """Points (N, 1, 2) with labels (N, 1), or boxes (N, 4)."""
    if by_box:
        return None, None, batch.boxes.flatten(0, 1)
    points = batch.clicks.flatten(0, 1)[:, None]
    return points, torch.full(points.shape[:2], FOREGROUND, device=points.device), None


def moves_from(rng: np.random.Generator) -> tuple[list[str], int]:
    """What is done to a batch, and how many of the first moves teach nothing.

    The `first` prompt, a quarter of the time a second look (`again`), and up to five further clicks. Patient batches get four
    to ten clicks, so that late ones are learnt, too; only the last teaches, or it would take too long.
    Source: Sofiiuk et al., "Reviving Iterative Training with Mask Guidance" (RITM), section 3.2.
    """
    if rng.random() < PATIENT:
        clicks = int(rng.integers(4, 11))
        return ["first", *["click"] * clicks], clicks
    clicks = int(rng.choice(6, p=[0.4, 0.28, 0.14, 0.1, 0.05, 0.03]))
    return ["first", *["again"] * (rng.random() < AGAIN), *["click"] * clicks], 0


def things_besides(batch: Batch, target: Target) -> Others:
    """What the clicks may mean besides, as targets that know as much of the picture as the objects' own."""
    others = batch.others.flatten(0, 1)  # (N, LAYERS, h, w)
    of, layer = (others.amax((2, 3)) > 127).nonzero(as_tuple=True)
    count = ~batch.by_people.repeat_interleave(batch.masks.shape[1])
    return Others(of, Target(others[of, layer].float() / 255, target.known[of]), count[of])


def best_fits(ious: Tensor, theirs: Tensor, others: Others) -> Tensor:
    """The IoU of each candidate (N, 4) with what it is most like, of what counts: the object, or (M, 4) the others."""
    of = others.of[others.count, None].expand(-1, ious.shape[1])
    return ious.scatter_reduce(0, of, theirs[others.count], "amax")


def to_look_at(ious: Tensor, rng: np.random.Generator) -> Tensor:
    """Which of a click's candidates (N,) get a second look: mostly the right one, else any, so that the score of a wrong one is
    learnt, too."""
    right = ious[:, 1:].argmax(1)
    any_of_three = torch.from_numpy(rng.integers(0, 3, len(ious))).to(ious.device)
    return 1 + torch.where(torch.from_numpy(rng.random(len(ious)) < 0.6).to(ious.device), right, any_of_three)


def most_like(chosen: Tensor, target: Target, ious: Tensor, others: Others, theirs: Tensor) -> tuple[Target, Tensor]:
    """What each chosen candidate is most like, the object or another thing that the click may mean; and the IoU (N,)."""
    share, fit = target.share.clone(), ious.gather(1, chosen[:, None])[:, 0]
    for i, of in enumerate(others.of.tolist()):
        if theirs[i, chosen[of]] > fit[of]:
            share[of], fit[of] = others.target.share[i], theirs[i, chosen[of]]
    return Target(share, target.known), fit


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
    return logits.float(), decoded.scores[:, which].float(), decoded.mask_tokens[:, which], decoded.object_score.float()

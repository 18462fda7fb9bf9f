"""Losses of candidate masks, and simulated corrective clicks.

Letters: N objects, K candidates, h and w of the logits, S of the picture's side (`logits_side`).
"""

from __future__ import annotations

from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from pointcut.nets.layers import cells_across
from pointcut.nets.prompts import BACKGROUND, FOREGROUND
from pointcut.nets.sam2 import NANO


class Target(NamedTuple):
    """What a mask should be, at the logits' size."""

    share: Tensor
    """(N, h, w) in [0, 1]: how much of the cell is object."""
    known: Tensor
    """(N, h, w): 0 where the picture is marked void."""


def logits_side(side: int) -> int:
    """S -> h and w."""
    return 4 * cells_across(side, NANO.stride)


def target_of(masks: Tensor) -> Target:
    """(N, S, S) uint8 of 0, 1, 255 -> the target at the logits' size."""
    small = logits_side(masks.shape[-1])
    share, unknown = (F.adaptive_avg_pool2d((masks == value).float()[:, None], small)[:, 0] for value in (1, 255))
    return Target(share, (unknown < 0.5).float())


def mask_losses(logits: Tensor, target: Target) -> Tensor:
    """Focal loss (times five) plus dice loss of each candidate: (N, K, h, w) -> (N, K).

    Sources: Lin et al., "Focal Loss"; Milletari et al., "V-Net" (dice). Shares between 0 and 1 are matched as they are, so that
    a logit of zero stands where the border is.
    """
    logits, share, known = logits.float(), target.share[:, None], target.known[:, None]
    p = logits.sigmoid()
    cross = F.binary_cross_entropy_with_logits(logits, share.expand_as(logits), reduction="none")
    focal = ((p - share).abs() ** 1.5 * cross * known).flatten(2).mean(2)
    overlap = (p * share * known).flatten(2).sum(2)
    total = ((p + share) * known).flatten(2).sum(2)
    return 5 * focal + 1 - (2 * overlap + 1) / (total + 1)


def true_ious(logits: Tensor, target: Target) -> Tensor:
    """The IoU of each candidate at threshold zero: (N, K, h, w) -> (N, K)."""
    mask = (logits > 0) & (target.known > 0)[:, None]
    truth = (target.share > 0.5)[:, None]
    return (mask & truth).flatten(2).sum(2) / (mask | truth).flatten(2).sum(2).clamp(min=1)


def corrective_clicks(logits: Tensor, target: Target, side: int) -> tuple[Tensor, Tensor]:
    """One click per object in the middle of what is wrong: (N, h, w) -> (N, 1, 2) x, y in a picture of `side` pixels, (N, 1)
    labels.

    Cells deep inside a wrong region are likelier, so that most clicks fall where a person's would.
    """
    truth, known = target.share > 0.5, target.known > 0
    missed, added = truth & ~(logits > 0) & known, ~truth & (logits > 0) & known
    wrong = torch.stack([missed, added], dim=1).float()  # (N, 2, h, w)
    depth = wrong
    for _ in range(3):
        depth = F.avg_pool2d(depth, 5, stride=1, padding=2) * wrong
    weight = (depth**2).flatten(1) + 1e-9 * truth.repeat(1, 2, 1).flatten(1)  # a perfect mask gets a click inside
    index = torch.multinomial(weight + 1e-12, 1)  # (N, 1)
    cells = logits.shape[1] * logits.shape[2]
    kind, cell = index // cells, index % cells
    xy = torch.stack([cell % logits.shape[2], cell // logits.shape[2]], dim=-1).float()
    xy = (xy + 0.5) * side / logits.shape[2] - 0.5
    perfect = ~wrong.flatten(1).any(1, keepdim=True)
    labels = torch.where((kind == 0) | perfect, FOREGROUND, BACKGROUND)
    return xy, labels

"""Endless training batches: pictures, a few objects of each, a first click and a noisy box for every object."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import cv2
import numpy as np
import torch
from torch import Tensor
from torch.utils.data import IterableDataset, get_worker_info

from composites import Donors, Rng, composite, in_the_light_of, random_view, recolour, tilted, warped, weather
from losses import logits_side
from photos import LAYERS, VOID, Photo, load_sets, objects_of, scenes_of
from pointcut.masks import iou
from telling import told_of

DONORS = (
    ("taught", 0.17),
    ("coco_by_train", 0.28),
    ("things", 0.10),
    ("coco_person_by", 0.05),
    ("stamps", 0.33),
    ("nuts18", 0.04),
    ("davis_tennis", 0.03),
)
"""What share of the objects that are pasted comes from where."""

BOX_NOISE = (0.1, 0.02, 0.0)
"""How far a box's sides are off, in the box's lengths: hasty boxes, careful ones, and true ones."""

SAME = 0.9
"""Masks that overlap by more are of one thing."""


@dataclass(frozen=True)
class Mixture:
    """What share of the pictures comes from where."""

    shares: tuple[tuple[str, float], ...] = (
        ("taught", 0.40),
        ("coco_by_train", 0.28),
        ("things", 0.15),
        ("coco_person_by", 0.05),
        ("dsb2018_nuclei", 0.03),
        ("nuts18", 0.03),
        ("davis_tennis", 0.03),
        ("unlabelled_textures", 0.03),
    )
    donors: tuple[tuple[str, float], ...] = DONORS
    composites: float = 0.5
    """The share of pictures that get things pasted over them."""
    tilted: float = 0.4
    """The share of photographs that are turned by some degrees."""
    warped: float = 0.3
    """The share that is bent."""
    lit: float = 0.25
    """The share that takes on the light of another."""
    least: float = 0.004
    """The smallest object asked for, as a share of the picture."""


class Batch(NamedTuple):
    """B pictures of S x S pixels with K objects each."""

    images: Tensor
    """(B, 3, S, S) uint8."""
    masks: Tensor
    """(B, K, S, S) uint8: 1 object, 0 not, 255 void."""
    clicks: Tensor
    """(B, K, 2) x, y."""
    boxes: Tensor
    """(B, K, 4) x0, y0, x1, y1, noisy."""
    others: Tensor
    """(B, K, LAYERS, h, w) uint8, at the logits' size: what else the click may mean, 255 in its cells; zeros where there is
    nothing."""
    by_people: Tensor
    """(B,) bool: people labelled the picture."""
    told: Tensor
    """(B, C, h/4, w/4) what a teacher's embedding has there, zeros where nothing is told."""


def inner_click(mask: np.ndarray, rng: Rng) -> tuple[float, float]:
    """A point of the object: half of the time its deepest, else any, deeper ones more often."""
    depth = cv2.distanceTransform(np.pad(mask, 1), cv2.DIST_L2, 3)[1:-1, 1:-1]
    flat = depth.ravel()
    if rng.random() < 0.5:
        index = int(flat.argmax())
    else:
        total = np.cumsum(flat)
        index = int(np.searchsorted(total, rng.uniform(0, total[-1])))
    y, x = divmod(min(index, flat.size - 1), mask.shape[1])
    return float(x), float(y)


def others_of(scene: Photo, mask: np.ndarray, click: tuple[float, float], least: float) -> np.ndarray:
    """What else a click on the object `mask` (S, S) bool may mean, by layers: (LAYERS, h, w) uint8 of 0 to 255, at
    the logits' size."""
    side = logits_side(mask.shape[0])
    others = np.zeros((LAYERS, side, side), np.uint8)
    if scene.layers is None:
        return others
    x, y = map(int, click)
    for i, label in enumerate(scene.layers[y, x]):
        other = scene.layers[..., i] == label
        if 0 < label < VOID and other.sum() >= least * other.size and iou(other, mask) < SAME:
            others[i] = cv2.resize(other.astype(np.uint8) * 255, others.shape[1:], interpolation=cv2.INTER_AREA)
    return others


def noisy_box(mask: np.ndarray, rng: Rng, noise: float) -> tuple[float, float, float, float]:
    """The object's box, each side moved by a tenth of its length (SAM paper, appendix A, "Training algorithm")."""
    ys, xs = np.nonzero(mask.any(axis=1))[0], np.nonzero(mask.any(axis=0))[0]
    x0, y0, x1, y1 = float(xs[0]), float(ys[0]), float(xs[-1] + 1), float(ys[-1] + 1)
    dx, dy = noise * (x1 - x0), noise * (y1 - y0)
    side = mask.shape[0]
    jitter = np.clip(rng.normal(0, 1, 4), -2, 2) * (dx, dy, dx, dy)
    x0, y0, x1, y1 = np.clip(np.array([x0, y0, x1, y1]) + np.clip(jitter, -20, 20), 0, side)
    return x0, y0, max(x1, x0 + 2), max(y1, y0 + 2)


class Batches(IterableDataset):
    """Each worker draws its own pictures for ever, from a generator seeded by (seed, worker, first step)."""

    def __init__(self, root: Path, side: int, pictures: int, objects: int, seed: int, mixture: Mixture) -> None:
        self.sets = load_sets(root)
        self.side, self.pictures, self.objects, self.seed, self.mixture = side, pictures, objects, seed, mixture
        shares = [(name, share) for name, share in mixture.shares if name in self.sets]
        if not shares:
            shares = [(name, 1.0) for name, photos in self.sets.items() if scenes_of({name: photos})]
        self.names = [name for name, _ in shares]
        self.weights = np.array([share for _, share in shares]) / sum(share for _, share in shares)
        self.donors = Donors(self.sets, mixture.donors)
        self.textures = scenes_of(self.sets)

    def __iter__(self):
        cv2.setNumThreads(1)
        worker = get_worker_info()
        rng = np.random.default_rng([self.seed, worker.id if worker else 0])
        while True:
            yield self.batch(rng)

    def batch(self, rng: Rng) -> Batch:
        pictures = [self.picture(rng) for _ in range(self.pictures)]
        return Batch(*(torch.from_numpy(np.stack(part)) for part in zip(*pictures, strict=True)))

    def picture(self, rng: Rng) -> tuple[np.ndarray, ...]:
        """One picture's row of a Batch."""
        while True:
            photos = self.sets[self.names[rng.choice(len(self.names), p=self.weights)]]
            scene = random_view(photos[rng.integers(len(photos))], self.side, rng, (0.25, 1.0))
            if rng.random() < self.mixture.tilted:
                scene = tilted(scene, rng)
            if rng.random() < self.mixture.warped:
                scene = warped(scene, rng)
            if rng.random() < self.mixture.composites or not scene.labels.any():
                scene = composite(scene, self.donors, self.textures, rng)
            ids = objects_of(scene, self.mixture.least)
            if ids:
                break
        # Larger objects are asked for more often, but not in proportion: people click on what they see.
        weight = np.array([(scene.labels == i).sum() for i in ids], np.float64) ** 0.45
        chosen = rng.choice(ids, size=self.objects, replace=len(ids) < self.objects, p=weight / weight.sum())
        masks = np.stack([np.where(scene.labels == VOID, VOID, scene.labels == i).astype(np.uint8) for i in chosen])
        clicks = [inner_click((m == 1).astype(np.uint8), rng) for m in masks]
        boxes = [noisy_box(m == 1, rng, rng.choice(BOX_NOISE)) for m in masks]
        others = [others_of(scene, m == 1, click, self.mixture.least) for m, click in zip(masks, clicks, strict=True)]
        image = scene.image
        if rng.random() < self.mixture.lit:
            image = in_the_light_of(self.textures[rng.integers(len(self.textures))].image, image, rng)
        image = weather(recolour(image, rng), rng).transpose(2, 0, 1)
        return (
            np.ascontiguousarray(image),
            masks,
            np.array(clicks, np.float32),
            np.array(boxes, np.float32),
            np.stack(others),
            np.array(scene.by_people),
            told_of(scene),
        )

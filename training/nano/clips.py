"""Training clips drawn by the recipe: photographs and cut-out objects on random paths, deformed and covering one another.

A clip is T frames of one square size with the mask of one object in each. Real clips (folders of frames with masks of the same
objects, as `davis_tennis`) are mixed in. In some the object is gone for a while: it left, it is hidden, or the film cuts to
another scene; its mask is empty there.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import cv2
import numpy as np
import torch
from torch import Tensor
from torch.utils.data import IterableDataset, get_worker_info

from batches import DONORS, inner_click
from composites import Donors, Rng, blob, cutout, paste, random_view, recolour, texture, weather
from photos import VOID, Photo, load_sets, objects_of, scenes_of

REAL = "davis_tennis"
"""The set whose pictures are the frames of one film, in order."""


class Clips(NamedTuple):
    """B clips."""

    images: Tensor
    """(B, T, 3, S, S) uint8."""
    masks: Tensor
    """(B, T, S, S) uint8: 1 object, 0 not, 255 void; no 1 in a frame without the object, never in the first."""
    clicks: Tensor
    """(B, 2) x, y: inside the object on the first frame."""


class Thing(NamedTuple):
    """A cut-out on its way over a scene."""

    image: np.ndarray
    mask: np.ndarray
    centre: tuple[float, float]
    path: Path2d
    away: range
    """The frames that it is not in."""


def some_frames(frames: int, rng: Rng) -> range:
    """A stretch of frames after the first."""
    start = int(rng.integers(1, frames))
    return range(start, int(rng.integers(start + 1, frames + 1)))


class Path2d:
    """A smooth random movement: shift, turn, zoom and a gentle deformation that grow with time, and come back at times."""

    def __init__(self, side: int, frames: int, rng: Rng, strength: float) -> None:
        time = np.linspace(0, 1, frames)
        bend = np.sin(np.pi * time * rng.uniform(0.5, 2.0))

        def course(scale: float) -> np.ndarray:
            return scale * (rng.normal() * time + 0.5 * rng.normal() * bend)

        self.side = side
        self.x, self.y = course(0.16 * strength * side), course(0.16 * strength * side)
        self.turn, self.zoom = course(18 * strength), np.exp(course(0.18 * strength))
        coarse = rng.normal(0, 0.02 * side * strength, (2, 4, 4)).astype(np.float32)
        self.bulge = np.stack([cv2.resize(c, (side, side), interpolation=cv2.INTER_CUBIC) for c in coarse])
        self.sway = time * rng.uniform(0.3, 1.5)
        self.grid = np.stack(np.meshgrid(np.arange(side), np.arange(side))).astype(np.float32)  # x, y

    def move(
        self, picture: np.ndarray, frame: int, centre: tuple[float, float], *, labels: bool, outside: int | None
    ) -> np.ndarray:
        """The picture (S, S[, 3]) at a time; `outside` fills what comes into view, None mirrors."""
        matrix = cv2.getRotationMatrix2D(centre, self.turn[frame], self.zoom[frame])
        matrix[:, 2] += self.x[frame], self.y[frame]
        inverse = cv2.invertAffineTransform(matrix)
        x, y = self.grid + self.sway[frame] * self.bulge
        source_x = (inverse[0, 0] * x + inverse[0, 1] * y + inverse[0, 2]).astype(np.float32)
        source_y = (inverse[1, 0] * x + inverse[1, 1] * y + inverse[1, 2]).astype(np.float32)
        border = cv2.BORDER_REFLECT if outside is None else cv2.BORDER_CONSTANT
        how = cv2.INTER_NEAREST if labels else cv2.INTER_LINEAR
        return cv2.remap(picture, source_x, source_y, how, borderMode=border, borderValue=outside or 0)


class ClipBatches(IterableDataset):
    """Each worker draws its own clips for ever, from a generator seeded by (seed, worker)."""

    def __init__(
        self,
        root: Path,
        side: int,
        clips: int,
        frames: int,
        seed: int,
        real: float = 0.15,
        away: float = 0.4,
        cut: float = 0.12,
    ) -> None:
        """Shares: of clips that are `real`, of things that are `away` for a while, of clips with a `cut` to another scene."""
        sets = load_sets(root)
        self.film = sets.pop(REAL, [])
        self.scenes = scenes_of(sets)
        self.donors = Donors(sets, DONORS)
        self.side, self.clips, self.frames, self.seed = side, clips, frames, seed
        self.real = real if len(self.film) >= 3 * frames else 0.0
        self.away, self.cut = away, cut

    def __iter__(self) -> Iterator[Clips]:
        cv2.setNumThreads(1)
        worker = get_worker_info()
        rng = np.random.default_rng([self.seed, worker.id if worker else 0])
        while True:
            images, masks, clicks = (np.stack(part) for part in zip(*(self.clip(rng) for _ in range(self.clips)), strict=True))
            yield Clips(
                torch.from_numpy(images).permute(0, 1, 4, 2, 3).contiguous(), torch.from_numpy(masks), torch.from_numpy(clicks)
            )

    def clip(self, rng: Rng) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        while True:
            photos, first_thing = self.filmed(rng) if rng.random() < self.real else self.drawn(rng)
            if rng.random() < self.cut:
                for t in some_frames(self.frames, rng):
                    photos[t] = self.elsewhere(photos[t], rng)
            ids = objects_of(photos[0], 0.006)
            if not ids:
                continue
            weight = np.array([(photos[0].labels == i).sum() for i in ids], np.float64) ** 0.5
            chosen = int(rng.choice(ids, p=weight / weight.sum()))
            masks = np.stack([np.where(p.labels == VOID, VOID, p.labels == chosen).astype(np.uint8) for p in photos])
            areas = (masks == 1).sum((1, 2))
            # What the camera lost may still be seen in the mirrored margin, marked void: only of things is it known.
            gone = (areas == 0) & (chosen >= first_thing or ~(masks == VOID).any((1, 2)))
            if (~gone & (areas < 0.002 * self.side**2)).any():
                continue
            seed = int(rng.integers(1 << 31))
            images = [recolour(p.image, np.random.default_rng(seed), 0.8) for p in photos]  # one light for the whole clip
            click = np.array(inner_click((masks[0] == 1).astype(np.uint8), rng), np.float32)
            return np.stack([weather(image, rng) for image in images]), masks, click

    def elsewhere(self, photo: Photo, rng: Rng) -> Photo:
        """Another scene, without the object."""
        other = random_view(self.scenes[rng.integers(len(self.scenes))], self.side, rng, (0.3, 1.0))
        return Photo(other.image, np.zeros_like(photo.labels))

    def filmed(self, rng: Rng) -> tuple[list[Photo], int]:
        """Frames of the real film, some steps apart, forwards or backwards; no thing among them."""
        step = int(rng.integers(1, 4))
        first = int(rng.integers(0, len(self.film) - step * (self.frames - 1)))
        frames = self.film[first : first + step * self.frames : step][: self.frames]
        seed = int(rng.integers(1 << 31))
        views = [random_view(p, self.side, np.random.default_rng(seed), (0.4, 1.0)) for p in frames]  # the same crop of each
        return views[::-1] if rng.random() < 0.5 else views, VOID

    def drawn(self, rng: Rng) -> tuple[list[Photo], int]:
        """A photograph that moves, with things that move over it, and the first thing's label."""
        side, middle = self.side, (self.side / 2, self.side / 2)
        scene = random_view(self.scenes[rng.integers(len(self.scenes))], side, rng, (0.3, 1.0))
        camera = Path2d(side, self.frames, rng, strength=rng.uniform(0.2, 0.9))
        things = []
        for _ in range(int(rng.integers(1, 4))):
            piece = cutout(self.donors, side, rng) if rng.random() < 0.7 else None
            image, mask = piece or (texture(self.scenes, side, rng), blob(side, rng))
            if mask.any():
                ys, xs = np.nonzero(mask)
                path = Path2d(side, self.frames, rng, rng.uniform(0.2, 1.2))
                away = some_frames(self.frames, rng) if rng.random() < self.away else range(0)
                things.append(Thing(image, mask, (float(xs.mean()), float(ys.mean())), path, away))
        label = max(objects_of(scene, 0.0), default=0)
        seed = int(rng.integers(1 << 31))
        photos = []
        for frame in range(self.frames):
            photo = Photo(
                camera.move(scene.image, frame, middle, labels=False, outside=None),
                camera.move(scene.labels, frame, middle, labels=True, outside=VOID),
            )
            for i, thing in enumerate(things):
                if frame in thing.away:
                    continue
                moved = thing.path.move(thing.mask, frame, thing.centre, labels=True, outside=0)
                fill = thing.path.move(thing.image, frame, thing.centre, labels=False, outside=None)
                photo = paste(photo, fill, moved, min(label + 1 + i, 254), np.random.default_rng(seed + i))
            photos.append(photo)
        return photos, label + 1

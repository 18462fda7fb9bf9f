"""Training pictures drawn by the recipe: cut-out objects and random shapes pasted over photographs.

The few labelled photographs hold a few hundred objects; pasted over one another, turned, scaled, recoloured, with shadows, and
cut by others they give a new picture every time, with exact borders. Everything is drawn from the generator that is passed in.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import partial

import cv2
import numpy as np

from photos import LAYERS, VOID, Photo, objects_of

Rng = np.random.Generator

UNKNOWN = (VOID,) * LAYERS
"""What lies there in each layer, if nobody knows."""

ELSEWHERE = (-1.0, -1.0)
"""The place of a pixel that is not of the photograph."""


class Donors:
    """The photographs that objects are cut out of; a set is drawn by its share, whatever it holds."""

    def __init__(self, sets: dict[str, list[Photo]], shares: tuple[tuple[str, float], ...]) -> None:
        """Sets without a share give nothing, unless there are no others."""
        having = {name: [p for p in photos if objects_of(p, 0.01)] for name, photos in sets.items()}
        drawn = [(having[name], share) for name, share in shares if having.get(name)]
        drawn = drawn or [(photos, 1.0) for photos in having.values() if photos]
        self.sets = [photos for photos, _ in drawn]
        self.odds = np.array([share for _, share in drawn]) / sum(share for _, share in drawn)

    def one(self, rng: Rng) -> Photo | None:
        if not self.sets:
            return None
        photos = self.sets[rng.choice(len(self.sets), p=self.odds)]
        return photos[rng.integers(len(photos))]


def random_view(photo: Photo, side: int, rng: Rng, zoom: tuple[float, float]) -> Photo:
    """A random crop, stretched to the square that the network sees, perhaps mirrored."""
    height, width = photo.labels.shape
    share = np.sqrt(rng.uniform(*zoom))
    stretch = np.exp(rng.uniform(-0.2, 0.2))
    h, w = int(min(height, height * share * stretch)), int(min(width, width * share / stretch))
    h, w = max(h, 32), max(w, 32)
    y, x = int(rng.integers(0, max(1, height - h + 1))), int(rng.integers(0, max(1, width - w + 1)))
    image, labels = photo.image[y : y + h, x : x + w], photo.labels[y : y + h, x : x + w]
    image = cv2.resize(image, (side, side), interpolation=cv2.INTER_AREA if h > side else cv2.INTER_LINEAR)
    labels = cv2.resize(labels, (side, side), interpolation=cv2.INTER_NEAREST)
    layers = photo.layers
    if layers is not None:
        layers = cv2.resize(layers[y : y + h, x : x + w], (side, side), interpolation=cv2.INTER_NEAREST)
    places = None
    if photo.told is not None:
        steps = (np.arange(side, dtype=np.float32) + 0.5) / side
        places = np.stack(np.meshgrid(x + steps * w, y + steps * h), axis=-1) / np.float32(max(height, width))
    step, maps = -1 if rng.random() < 0.5 else 1, (image, labels, layers, places)
    image, labels, layers, places = (x if x is None else np.ascontiguousarray(x[:, ::step]) for x in maps)
    return replace(photo, image=image, labels=labels, layers=layers, places=places)


def tilted(photo: Photo, rng: Rng) -> Photo:
    """A square view turned by some degrees: cameras are held askew, and things should be known so, too."""
    side = photo.labels.shape[0]
    matrix = cv2.getRotationMatrix2D((side / 2, side / 2), rng.normal(0, 12), 1.1)
    image = cv2.warpAffine(photo.image, matrix, (side, side), flags=cv2.INTER_LINEAR, borderMode=cv2.BORDER_REFLECT_101)
    moved = partial(cv2.warpAffine, M=matrix, dsize=(side, side), flags=cv2.INTER_NEAREST)
    return replace(photo, image=image, **moved_maps(photo, moved))


def warped(photo: Photo, rng: Rng) -> Photo:
    """A square view bent by a smooth random field, up to a few hundredths of its side: shapes that nobody photographed."""
    side = photo.labels.shape[0]
    cells = int(rng.integers(3, 7))
    amount = rng.uniform(0.01, 0.05) * side
    across, down = (rng.normal(0, amount, (cells, cells)).astype(np.float32) for _ in range(2))
    across, down = (cv2.resize(field, (side, side), interpolation=cv2.INTER_CUBIC) for field in (across, down))
    y, x = np.mgrid[0:side, 0:side].astype(np.float32)
    x, y = x + across, y + down
    image = cv2.remap(photo.image, x, y, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REFLECT_101)
    moved = partial(cv2.remap, map1=x, map2=y, interpolation=cv2.INTER_NEAREST, borderMode=cv2.BORDER_CONSTANT)
    return replace(photo, image=image, **moved_maps(photo, moved))


def moved_maps(photo: Photo, moved: Callable[..., np.ndarray]) -> dict[str, np.ndarray | None]:
    """What is known of each pixel, moved with the picture: by OpenCV, which takes `borderValue` for what comes from outside."""
    layers, places = photo.layers, photo.places
    return {
        "labels": moved(photo.labels, borderValue=VOID),
        "layers": layers if layers is None else moved(layers, borderValue=UNKNOWN),
        "places": places if places is None else moved(places, borderValue=ELSEWHERE),
    }


def in_the_light_of(other: np.ndarray, image: np.ndarray, rng: Rng) -> np.ndarray:
    """A picture with the mean and spread of another's colours, by a random share: (H, W, 3) uint8 -> the same."""
    x = image.astype(np.float32)
    mean, spread = x.mean((0, 1)), x.std((0, 1)) + 8
    aim, wide = other.mean((0, 1)), other.std((0, 1)) + 8
    share = rng.uniform(0.3, 1.0)
    moved = (x - mean) * np.clip(wide / spread, 0.4, 2.0) + aim
    return np.clip(x * (1 - share) + moved * share, 0, 255).astype(np.uint8)


def recolour(image: np.ndarray, rng: Rng, strength: float = 1.0) -> np.ndarray:
    """Brightness, contrast, saturation, colour cast, gamma, sometimes grey, or other channels: (H, W, 3) uint8 -> the same."""
    x = image.astype(np.float32)
    grey = x.mean(axis=2, keepdims=True)
    x = grey + (x - grey) * rng.uniform(1 - 0.6 * strength, 1 + 0.5 * strength)
    if rng.random() < 0.08:
        x = np.repeat(grey, 3, axis=2)
    x = (x - x.mean()) * rng.uniform(1 - 0.35 * strength, 1 + 0.35 * strength) + x.mean()
    x = x * (1 + rng.uniform(-0.15, 0.15, 3).astype(np.float32) * strength) + rng.uniform(-30, 30) * strength
    if rng.random() < 0.05:
        x = 255 - x
    x = np.clip(x, 0, 255)
    if rng.random() < 0.3:
        x = 255 * (x / 255) ** np.exp(rng.uniform(-0.5, 0.5))
    if rng.random() < 0.1:
        x = x[..., rng.permutation(3)]
    return x.astype(np.uint8)


def weather(image: np.ndarray, rng: Rng) -> np.ndarray:
    """What cameras do: blur, noise, JPEG blocks."""
    if rng.random() < 0.2:
        image = cv2.GaussianBlur(image, (0, 0), rng.uniform(0.4, 1.4))
    if rng.random() < 0.2:
        noise = rng.normal(0, rng.uniform(2, 14), image.shape)
        image = np.clip(image + noise, 0, 255).astype(np.uint8)
    if rng.random() < 0.15:
        _, data = cv2.imencode(".jpg", image, [cv2.IMWRITE_JPEG_QUALITY, int(rng.integers(25, 80))])
        image = cv2.imdecode(data, cv2.IMREAD_COLOR)
    return image


def blob(side: int, rng: Rng) -> np.ndarray:
    """A random shape as a mask (side, side) uint8: smooth blob, polygon, ellipse, ring, or a thin stroke."""
    mask = np.zeros((side, side), np.uint8)
    kind = rng.choice(["blob", "polygon", "ellipse", "ring", "stroke"], p=[0.35, 0.25, 0.2, 0.1, 0.1])
    centre = rng.uniform(0.2, 0.8, 2) * side
    radius = side * np.exp(rng.uniform(np.log(0.06), np.log(0.4)))
    if kind in ("blob", "polygon"):
        corners = int(rng.integers(3, 9)) if kind == "polygon" else 64
        angle = np.sort(rng.uniform(0, 2 * np.pi, corners)) if kind == "polygon" else np.linspace(0, 2 * np.pi, 64, False)
        reach = radius * rng.uniform(0.5, 1.1, corners)
        if kind == "blob":
            waves = sum(rng.normal(0, 0.5 / k) * np.cos(k * angle + rng.uniform(0, 6.3)) for k in range(1, 7))
            reach = radius * np.clip(1 + 0.6 * waves, 0.15, 2)
        aspect = np.exp(rng.uniform(-0.7, 0.7))
        points = centre + np.stack([reach * np.cos(angle) * aspect, reach * np.sin(angle) / aspect], axis=1)
        cv2.fillPoly(mask, [points.round().astype(np.int32)], 1)
    elif kind in ("ellipse", "ring"):
        axes = radius * np.exp(rng.uniform(-0.6, 0.6, 2))
        thickness = -1 if kind == "ellipse" else max(2, int(radius * rng.uniform(0.15, 0.5)))
        where, size = tuple(int(v) for v in centre), tuple(int(max(3, v)) for v in axes)
        cv2.ellipse(mask, where, size, rng.uniform(0, 180), 0, 360, 1, thickness)
    else:
        points = np.cumsum(rng.normal(0, radius * 0.7, (6, 2)), axis=0) + centre
        cv2.polylines(mask, [points.round().astype(np.int32)], False, 1, max(2, int(side * rng.uniform(0.012, 0.05))))
    return mask


def texture(textures: list[Photo], side: int, rng: Rng) -> np.ndarray:
    """Something to fill a shape with: a piece of a photograph, a plain colour, or a gradient."""
    choice = rng.random()
    if choice < 0.65:
        photo = textures[rng.integers(len(textures))]
        return recolour(random_view(photo, side, rng, (0.05, 0.6)).image, rng)
    first, second = rng.uniform(0, 255, (2, 3))
    if choice < 0.85:
        second = np.clip(first + rng.normal(0, 10, 3), 0, 255)
    t = np.linspace(0, 1, side)[:, None, None]
    plain = np.broadcast_to(first * (1 - t) + second * t, (side, side, 3))
    return np.rot90(plain, int(rng.integers(4))).astype(np.uint8)


def cutout(donors: Donors, side: int, rng: Rng) -> tuple[np.ndarray, np.ndarray] | None:
    """An object of another photograph, turned, scaled and moved: its picture and its mask, on the square."""
    donor = donors.one(rng)
    if donor is None:
        return None
    ids = objects_of(donor, 0.01)
    mask = (donor.labels == rng.choice(ids)).astype(np.uint8)
    ys, xs = np.nonzero(mask)
    extent = max(np.ptp(xs), np.ptp(ys)) + 1
    scale = side * np.exp(rng.uniform(np.log(0.15), np.log(0.8))) / extent
    matrix = cv2.getRotationMatrix2D((xs.mean(), ys.mean()), rng.normal(0, 20), scale)
    if rng.random() < 0.5:
        matrix[:, 0] *= -1
    target = rng.uniform(0.15, 0.85, 2) * side
    matrix[:, 2] += target - matrix @ np.array([xs.mean(), ys.mean(), 1])
    image = cv2.warpAffine(donor.image, matrix, (side, side), flags=cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
    return recolour(image, rng, 0.6), cv2.warpAffine(mask, matrix, (side, side), flags=cv2.INTER_NEAREST)


def paste(scene: Photo, image: np.ndarray, mask: np.ndarray, label: int, rng: Rng) -> Photo:
    """Lays an object over a scene, with a soft border and sometimes a shadow under it."""
    canvas = scene.image.astype(np.float32)
    if rng.random() < 0.3:
        offset = rng.normal(0, 0.03 * mask.shape[0], 2)
        shadow = cv2.warpAffine(mask.astype(np.float32), np.array([[1, 0, offset[0]], [0, 1, offset[1]]]), mask.shape[::-1])
        shadow = cv2.GaussianBlur(shadow, (0, 0), rng.uniform(1.5, 6))
        canvas *= 1 - rng.uniform(0.2, 0.6) * shadow[..., None]
    alpha = cv2.GaussianBlur(mask.astype(np.float32), (0, 0), rng.uniform(0.4, 1.0))[..., None]
    canvas = canvas * (1 - alpha) + image * alpha
    covered, layers, places = mask[..., None] > 0, scene.layers, scene.places
    return replace(
        scene,
        image=canvas.astype(np.uint8),
        labels=np.where(mask > 0, np.uint8(label), scene.labels),
        layers=layers if layers is None else np.where(covered, np.uint8(0), layers),
        places=places if places is None else np.where(covered, np.float32(ELSEWHERE), places),
    )


def composite(scene: Photo, donors: Donors, textures: list[Photo], rng: Rng) -> Photo:
    """A scene with one to five things pasted over it; what they leave visible of labelled objects keeps its label."""
    side = scene.labels.shape[0]
    label = max((i for i in objects_of(scene, 0.0)), default=0)
    for _ in range(int(rng.integers(1, 6))):
        label += 1
        if label >= 254:
            break
        piece = cutout(donors, side, rng) if rng.random() < 0.75 else None
        if piece is None:
            piece = texture(textures, side, rng), blob(side, rng)
        scene = paste(scene, *piece, label, rng)
    return scene

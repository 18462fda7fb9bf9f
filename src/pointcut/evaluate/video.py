"""How well objects are followed: J&F on labelled films, beside baselines.

Measures: Perazzi et al., "A Benchmark Dataset and Evaluation Methodology for Video Object Segmentation" (DAVIS), section 5.
J is the mean IoU over the frames after the first, F the mean boundary measure, J&F their mean.
"""

from __future__ import annotations

import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from ..errors import InputError
from ..files import folders_named
from ..images import open_image
from ..opencv import opencv
from ..segment.segmenter import Segmenter
from ..video.tracker import Tracker
from .data import VOID, files_in, labels_in
from .measure import boundary_f, deepest, iou


@dataclass(frozen=True, eq=False)
class LabelledFilm:
    """`<name>/images/*.jpg` with `<name>/masks/*.png`: one object, whatever its labels' numbers."""

    name: str
    images: list[Path]
    truths: list[np.ndarray]
    """(H, W) bool of each frame."""
    known: list[np.ndarray]


def films(root: Path, longest: int) -> Iterator[LabelledFilm]:
    """Every labelled film below `root`, of each at most the first `longest` frames. Raises InputError.

    A folder whose pictures differ in size holds photographs: it is passed over.
    """
    found = False
    for folder in folders_named("images", root):
        masks = folder.parent / "masks"
        pairs = [(image, masks / f"{image.stem}.png") for image in files_in(folder)]
        pairs = [(image, mask) for image, mask in pairs if mask.is_file()][:longest]
        if len(pairs) < 2 or len(folder.relative_to(root).parts) < 2:
            continue
        labels = [labels_in(mask) for _, mask in pairs]
        truths = [(x > 0) & (x != VOID) for x in labels]
        if truths[0].any() and len({x.shape for x in labels}) == 1:
            found = True
            yield LabelledFilm(folder.parent.name, [image for image, _ in pairs], truths, [x != VOID for x in labels])
    if not found:
        raise InputError(f"no labelled films below {root}: expected <film>/images/X.jpg with <film>/masks/X.png")


class Follower(ABC):
    """Something that follows an object."""

    name: str

    @abstractmethod
    def follow(self, film: LabelledFilm) -> Iterator[np.ndarray]:
        """The mask (H, W) bool of the second frame, the third, ..."""


class Tracked(Follower):
    """The tracker, told of the object on the first frame."""

    told: str

    def __init__(self, segmenter: Segmenter) -> None:
        self.name, self.segmenter = f"{segmenter.name}, {self.told}", segmenter

    @abstractmethod
    def tell(self, tracker: Tracker, truth: np.ndarray) -> None:
        """Says where object 1 is on frame 0."""

    def follow(self, film: LabelledFilm) -> Iterator[np.ndarray]:
        tracker = self.segmenter.track([open_image(path) for path in film.images])
        self.tell(tracker, film.truths[0])
        yield from (frame.segments.masks[0] for frame in tracker.run(1))


class FromMask(Tracked):
    """Given the first frame's mask."""

    told = "from the mask"

    def tell(self, tracker: Tracker, truth: np.ndarray) -> None:
        tracker.prompt(0, 1, mask=truth)


class FromClick(Tracked):
    """Given one click into the object's deepest point."""

    told = "from one click"

    def tell(self, tracker: Tracker, truth: np.ndarray) -> None:
        tracker.prompt(0, 1, points=[deepest(truth)[0]])


class Repeated(Follower):
    """The first mask, again and again."""

    name = "the first mask, repeated"

    def follow(self, film: LabelledFilm) -> Iterator[np.ndarray]:
        for _ in film.images[1:]:
            yield film.truths[0]


class OpticalFlow(Follower):
    """The mask, carried from frame to frame by dense optical flow (OpenCV's DIS)."""

    name = "optical flow (OpenCV DIS)"

    def follow(self, film: LabelledFilm) -> Iterator[np.ndarray]:
        cv2 = opencv("optical flow")
        flow_of = cv2.DISOpticalFlow_create(cv2.DISOPTICAL_FLOW_PRESET_MEDIUM)
        share = film.truths[0].astype(np.float32)
        before = cv2.cvtColor(open_image(film.images[0]), cv2.COLOR_RGB2GRAY)
        y, x = np.mgrid[: share.shape[0], : share.shape[1]].astype(np.float32)
        for path in film.images[1:]:
            now = cv2.cvtColor(open_image(path), cv2.COLOR_RGB2GRAY)
            flow = flow_of.calc(now, before, None)  # where each pixel was a frame ago
            share = cv2.remap(share, x + flow[..., 0], y + flow[..., 1], cv2.INTER_LINEAR)
            before = now
            yield share > 0.5


def judge_film(follower: Follower, film: LabelledFilm) -> dict[str, Any]:
    """J, F and J&F of one film, and milliseconds a frame."""
    started = time.perf_counter()
    masks = list(follower.follow(film))
    seconds = time.perf_counter() - started
    pairs = list(zip(masks, film.truths[1:], film.known[1:], strict=True))
    overlap = float(np.mean([iou(mask, truth, known) for mask, truth, known in pairs]))
    edges = float(np.mean([boundary_f(mask & known, truth) for mask, truth, known in pairs]))
    return {
        "film": film.name,
        "follower": follower.name,
        "J": overlap,
        "F": edges,
        "J&F": (overlap + edges) / 2,
        "ms a frame": 1000 * seconds / len(masks),
    }


def judge_films(
    followers: list[Follower], films_: list[LabelledFilm], progress: Callable[[int, int], None] | None = None
) -> list[dict[str, Any]]:
    """One row for each film and follower."""
    rows = []
    for done, film in enumerate(films_, 1):
        rows += [judge_film(follower, film) for follower in followers]
        if progress is not None:
            progress(done, len(films_))
    return rows


def films_table(rows: list[dict[str, Any]]) -> str:
    """A table for people: a line for each follower, a column for each film's J&F, and means."""
    names = list(dict.fromkeys(row["film"] for row in rows))
    lines = [f"| | {' | '.join(names)} | J | F | J&F | ms a frame |", "|---" * (5 + len(names)) + "|"]
    for follower in dict.fromkeys(row["follower"] for row in rows):
        own = {row["film"]: row for row in rows if row["follower"] == follower}
        means = [float(np.mean([row[key] for row in own.values()])) for key in ("J", "F", "J&F")]
        cells = [f"{own[name]['J&F']:.3f}" for name in names] + [f"{value:.3f}" for value in means]
        lines.append(f"| {follower} | {' | '.join(cells)} | {np.mean([r['ms a frame'] for r in own.values()]):.0f} |")
    return "\n".join(lines)

"""Everything in a large picture: overlapping tiles at full size, then at a half, a quarter, ... until one shows all of it.

A thing that lies whole within a tile is found there; neighbouring tiles overlap, so a thing no larger than the overlap lies
whole within one of them. What a tile's edge cuts is joined with its other part in the next tile where both agree on what they
share. What is too large even for that is left to the coarser tiles, where it is whole. So no mask ends at a seam.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np

from .. import rle
from ..automatic.config import AutomaticConfig, default_config
from ..errors import InputError
from ..reading.large import LargePicture
from ..rle import Rle
from ..segment.segmenter import Segmenter
from ..segments import Segments
from .prompted import black
from .windows import Window

AGREE = 0.7
"""The IoU, within what two tiles share, from which on two masks are one thing."""

GOES_ON = 0.5
"""How much of what lies along a seam must have its like beyond it."""

SAME = 0.7
"""The IoU from which on two masks of the whole picture are the same, as in the reference's suppression of duplicates."""


@dataclass(frozen=True)
class Tiling:
    """How a large picture is cut into tiles. Raises InputError."""

    side: int = 1024
    """Of a tile of the finest layer, in the picture's pixels."""
    overlap: int = 256
    """Of neighbouring tiles of the finest layer."""

    def __post_init__(self) -> None:
        if self.side < 64 or not 0 <= self.overlap <= self.side // 2:
            raise InputError(f"tiles are at least 64 pixels and overlap by at most a half, got {self.side} and {self.overlap}")

    def layers(self, size: tuple[int, int]) -> list[list[Window]]:
        """The windows of each layer, finest first; the last layer is one window."""
        layers, side, overlap = [], self.side, self.overlap
        while True:
            xs, ys = (_starts(length, side, overlap) for length in (size[1], size[0]))
            layers.append([Window(x, y, min(x + side, size[1]), min(y + side, size[0])) for y in ys for x in xs])
            if len(layers[-1]) == 1:
                return layers
            side, overlap = 2 * side, 2 * overlap


def _starts(length: int, side: int, overlap: int) -> list[int]:
    """Where tiles begin along one side of the picture, evenly."""
    if length <= side:
        return [0]
    count = -(-(length - overlap) // (side - overlap))
    return [round(i * (length - side) / (count - 1)) for i in range(count)]


@dataclass(frozen=True, eq=False)
class Piece:
    """A mask that was found in one window."""

    mask: Rle
    """In the large picture."""
    edges: np.ndarray
    box: np.ndarray
    """(4,) float32 x0, y0, x1, y1."""
    score: float
    stability: float
    window: Window
    cut: bool
    """Whether it reaches the window's edge where the picture goes on."""

    @property
    def area(self) -> int:
        return int((self.edges[1::2] - self.edges[0::2]).sum())


def everything_in(
    model: Segmenter,
    picture: LargePicture,
    tiling: Tiling | None = None,
    config: AutomaticConfig | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> Segments:
    """Automatic masks of a large picture, best first, as run lengths; the picture of the result is black, and takes no memory.

    config: the search in each tile. progress: called with tiles done and in all. Raises as reading does.
    """
    size = picture.height, picture.width
    layers = (tiling or Tiling()).layers(size)
    config, total, done = config or default_config(model.name), sum(map(len, layers)), 0
    found: list[Piece] = []
    for layer in layers:
        pieces: list[list[Piece]] = []
        for window in layer:
            pieces.append(list(_pieces(model, picture, window, config)))
            done += 1
            if progress is not None:
                progress(done, total)
        found += joined(pieces, size)
    kept = distinct(found)
    figures: list[dict[str, Any]] = [{"score": piece.score, "stability": piece.stability} for piece in kept]
    return Segments.read_back(black(size), [piece.mask for piece in kept], figures, range(len(kept)))


def _pieces(model: Segmenter, picture: LargePicture, window: Window, config: AutomaticConfig) -> Iterator[Piece]:
    size = picture.height, picture.width
    cut = model.encode(window.read(picture)).segment_everything(config)
    for row, mask in enumerate(cut.rle()):
        placed = rle.placed(mask, window.x0, window.y0, size, window.factor)
        edges, box = rle.edges_of(placed), rle.box_xyxy(placed)
        if len(edges):
            at_edge = bool(window.cuts(box[None], size)[0])
            yield Piece(placed, edges, box, float(cut.scores[row]), float(cut.stability[row]), window, at_edge)


def joined(tiles: list[list[Piece]], size: tuple[int, int]) -> list[Piece]:
    """The things of one layer that are whole: found so in one tile, or put together from tiles that agree on what they share.

    tiles: the pieces of each window.
    """
    cut = [[piece for piece in pieces if piece.cut] for pieces in tiles]
    whole = [piece for pieces in tiles for piece in pieces if not piece.cut]
    parts = [piece for pieces in cut for piece in pieces]
    group = {id(piece): [piece] for piece in parts}
    for _, first, second in sorted(_agreements(cut, size[0]), key=lambda found: -found[0]):
        one, other = group[id(first)], group[id(second)]
        windows = {piece.window for piece in one}
        if one is not other and not any(piece.window in windows for piece in other):  # a tile has one part of a thing
            one += other
            group.update({id(piece): one for piece in other})
    together = {id(its): its for its in group.values()}
    return whole + [thing for its in together.values() if (thing := _united(its, size)) is not None]


def _agreements(tiles: list[list[Piece]], height: int) -> Iterator[tuple[float, Piece, Piece]]:
    """Pairs of pieces of two tiles that are one thing in what the tiles share, with their IoU there; one partner a piece."""
    for i, pieces in enumerate(tiles):
        for others in tiles[i + 1 :]:
            both = pieces and others and pieces[0].window.shared(others[0].window)
            if not both:
                continue
            area = rle.rectangle(both.x0, both.y0, both.x1, both.y1, height)
            ious = np.zeros((len(pieces), len(others)))
            seen = [rle.shared_areas(area, [piece.edges for piece in side]) for side in (pieces, others)]
            for a, first in enumerate(pieces):
                for b, second in enumerate(others):
                    if seen[0][a] and seen[1][b] and _meet(first.box, second.box):
                        common = rle.shared_area(first.edges, second.edges)
                        ious[a, b] = common / (seen[0][a] + seen[1][b] - common)
            while ious.size and ious.max() >= AGREE:
                best = divmod(int(ious.argmax()), len(others))
                yield float(ious[best]), pieces[best[0]], others[best[1]]
                ious[best[0]], ious[:, best[1]] = 0, 0


def _meet(first: np.ndarray, second: np.ndarray) -> bool:
    return bool((np.maximum(first[:2], second[:2]) < np.minimum(first[2:], second[2:])).all())


def _united(pieces: list[Piece], size: tuple[int, int]) -> Piece | None:
    """Parts as one thing; None where one still ends at an edge that no other part goes beyond: it is not whole."""
    if len(pieces) == 1:
        return None
    for piece in pieces:
        others = [other for other in pieces if other is not piece]
        if not all(
            any(_goes_on(piece, side, edge, other, size) for other in others) for side, edge in _open_sides(piece, size)
        ):
            return None
    mask = rle.union([piece.mask for piece in pieces])
    share = np.array([piece.area for piece in pieces], np.float64)
    score = float(np.average([piece.score for piece in pieces], weights=share))
    stability = min(piece.stability for piece in pieces)
    return Piece(mask, rle.edges_of(mask), rle.box_xyxy(mask), score, stability, pieces[0].window, False)


def _open_sides(piece: Piece, size: tuple[int, int]) -> Iterator[tuple[int, int]]:
    """The sides (0 to 3: x0, y0, x1, y1) at which a window's edge cuts a piece, and where that edge is."""
    window, near = piece.window, piece.window.near
    limits = (0, 0, size[1], size[0])
    for side, edge in enumerate((window.x0, window.y0, window.x1, window.y1)):
        reach = piece.box[side] < edge + near if side < 2 else piece.box[side] > edge - near
        if edge != limits[side] and reach:
            yield side, edge


def _goes_on(piece: Piece, side: int, edge: int, other: Piece, size: tuple[int, int]) -> bool:
    """Whether a piece that is cut at an edge goes on in another, beyond it: most that lies along the edge has a neighbour."""
    near, (x0, y0, x1, y1) = piece.window.near, (int(v) for v in piece.box)
    along_x, outwards = side % 2 == 0, 1 if side >= 2 else -1
    within, beyond = sorted((edge, edge - outwards * near)), sorted((edge, edge + outwards * near))
    limit = size[1] if along_x else size[0]
    strips = [
        rle.rectangle(*((low, y0, high, y1) if along_x else (x0, low, x1, high)), size[0])
        for low, high in (within, (max(0, beyond[0]), min(limit, beyond[1])))
    ]
    return rle.shared_area(other.edges, strips[1]) >= GOES_ON * rle.shared_area(piece.edges, strips[0])


def distinct(pieces: list[Piece]) -> list[Piece]:
    """Best first, without those that are nearly the same as a better one."""
    kept: list[Piece] = []
    boxes = np.zeros((0, 4), np.float32)
    for piece in sorted(pieces, key=lambda piece: -piece.score):
        near = np.flatnonzero((np.maximum(boxes[:, :2], piece.box[:2]) < np.minimum(boxes[:, 2:], piece.box[2:])).all(axis=1))
        area = piece.area
        alike = False
        for row in near:
            other = kept[row]
            if min(area, other.area) <= SAME * max(area, other.area):
                continue  # too different in extent to be the same
            common = rle.shared_area(piece.edges, other.edges)
            alike = common > SAME * (area + other.area - common)
            if alike:
                break
        if not alike:
            kept.append(piece)
            boxes = np.concatenate([boxes, piece.box[None]])
    return kept

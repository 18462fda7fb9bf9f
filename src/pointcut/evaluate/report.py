"""What the evaluation found: a table per set, and the worst cases as a sheet of pictures."""

from __future__ import annotations

from collections import defaultdict
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from .. import draw
from ..images import open_image
from ..masks import boxes_xyxy
from .contenders import Model
from .data import Example

TILE = 260


def table(rows: list[dict[str, Any]]) -> dict[str, dict[str, dict[str, float]]]:
    """set -> contender -> figure -> its mean over the objects; `objects` is their number."""
    groups: dict[tuple[str, str], list[dict[str, Any]]] = defaultdict(list)
    for row in rows:
        groups[row["set"], row["contender"]].append(row)
    sets: dict[str, dict[str, dict[str, float]]] = defaultdict(dict)
    for (set_name, contender), found in groups.items():
        figures = [name for name in found[0] if isinstance(found[0][name], float | int) and name != "object"]
        means = {name: round(float(np.mean([row[name] for row in found])), 3) for name in figures}
        sets[set_name][contender] = {"objects": len(found)} | means
    return dict(sets)


def markdown(sets: dict[str, dict[str, dict[str, float]]]) -> str:
    """The table as people read it."""
    columns = list(dict.fromkeys(name for contenders in sets.values() for means in contenders.values() for name in means))
    lines = ["| set | contender | " + " | ".join(columns) + " |", "|---" * (len(columns) + 2) + "|"]
    for set_name, contenders in sets.items():
        for contender, means in contenders.items():
            cells = [_cell(name, means.get(name)) for name in columns]
            lines.append(f"| {set_name} | {contender} | " + " | ".join(cells) + " |")
    return "\n".join(lines)


def _cell(name: str, value: float | None) -> str:
    if value is None:
        return ""
    if name == "objects" or name.endswith(" ms"):
        return f"{value:.0f}"
    return f"{value:.1f}" if name.startswith("NoC") else f"{value:.3f}"


def worst_cases(model: Model, rows: list[dict[str, Any]], pictures: list[Example], count: int = 12) -> Image.Image:
    """The objects that the model cuts out worst by their box: picture with the box and the mask, and the IoU."""
    own = sorted((row for row in rows if row["contender"] == model.name), key=lambda row: row["box IoU"])[:count]
    by_path = {str(example.path): example for example in pictures}
    tiles, captions = [], []
    for row in own:
        example = by_path[row["picture"]]
        truth = example.truths[row["object"]]
        model.look(example.path)
        cut = model.encoded.segment(boxes=boxes_xyxy(truth[None])[0])
        tile = draw.overlay(open_image(example.path), cut.best.masks, cut.prompts)
        tile.thumbnail((TILE, TILE))
        tiles.append(tile)
        captions.append(f"{Path(row['picture']).stem[-16:]} #{row['object'] + 1}: IoU {row['box IoU']:.2f}")
    return draw.sheet(tiles, captions)

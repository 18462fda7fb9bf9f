"""Masks and prompts, and figures side by side, in matplotlib (extra: `plot`)."""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from .errors import MissingExtra
from .files import replacing
from .prompts import FOREGROUND, Prompt
from .segments import Segments

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

BLUE = (30 / 255, 144 / 255, 255 / 255, 0.6)


def show(segments: Segments, *, title: str | None = None) -> Figure:
    """One panel per mask, with prompts and score. Returns the figure; call `.savefig(path)`, or `plt.show()`.

    Raises MissingExtra without matplotlib.
    """
    plt = pyplot_or_error()
    figure, axes = plt.subplots(1, max(1, len(segments)), figsize=(5 * max(1, len(segments)), 5), squeeze=False)
    for axis, cut in zip(axes[0], segments, strict=False):
        axis.imshow(cut.image)
        show_mask(cut.masks[0], axis)
        for prompt in cut.prompts[cut.objects[0] : cut.objects[0] + 1]:
            _show_prompt(prompt, axis)
        axis.set_title(f"score {cut.scores[0]:.3f}")
        axis.axis("off")
    if title:
        figure.suptitle(title)
    figure.tight_layout()
    return figure


def show_mask(mask: np.ndarray, ax: Axes, random_color: bool = False) -> None:
    """Tints a mask (H, W) over what the axes show, as the SAM notebooks do."""
    colour = np.array([*np.random.default_rng().random(3), 0.6]) if random_color else np.array(BLUE)
    height, width = mask.shape[-2:]
    ax.imshow(mask.reshape(height, width, 1) * colour)


def draw_bars(panels: Mapping[str, Mapping[str, Sequence[float]]], path: str | Path, *, title: str = "") -> None:
    """One panel for each quantity, in it a bar for each contender; what is shortest is best.

    panels: quantity -> contender -> its values; the bar ends at their median, a line goes from the least to the most. A
    contender without a value is left out of that panel. Writes a PNG, SVG or PDF by the path's ending. Raises MissingExtra,
    OutputError.
    """
    pyplot_or_error()
    from matplotlib.figure import Figure

    names = list(dict.fromkeys(name for bars in panels.values() for name in bars))
    colours = {name: f"C{i}" for i, name in enumerate(names)}
    figure = Figure(figsize=(3.2 * len(panels) + 2.5, 0.4 * len(names) + 1.2), layout="constrained")
    axes = figure.subplots(1, len(panels), squeeze=False, sharey=True)[0]
    for axis, (quantity, bars) in zip(axes, panels.items(), strict=True):
        places = [names.index(name) for name in bars]
        medians, most = [statistics.median(values) for values in bars.values()], [max(values) for values in bars.values()]
        least = [min(values) for values in bars.values()]
        axis.barh(places, medians, color=[colours[name] for name in bars])
        axis.hlines(places, least, most, color="black", linewidth=1)
        for place, median, end in zip(places, medians, most, strict=True):
            said = f"{median:,.0f}" if median >= 10 else f"{median:.2g}"
            axis.annotate(said, (end, place), (5, 0), textcoords="offset points", va="center")
        axis.margins(x=0.2)
        axis.set_title(quantity, fontsize="medium")
        axis.spines[["top", "right"]].set_visible(False)
    axes[0].set_yticks(range(len(names)), names)
    axes[0].invert_yaxis()
    figure.suptitle(title, fontsize="medium")
    with replacing(Path(path)) as temporary:
        figure.savefig(temporary, dpi=110)


def _show_prompt(prompt: Prompt, axis: Axes) -> None:
    for colour, wanted in (("green", prompt.labels == FOREGROUND), ("red", prompt.labels != FOREGROUND)):
        points = prompt.points[wanted]
        axis.scatter(points[:, 0], points[:, 1], color=colour, marker="*", s=300, edgecolor="white", linewidth=1.25)
    if prompt.box is not None:
        x0, y0, x1, y1 = prompt.box.tolist()
        axis.plot([x0, x1, x1, x0, x0], [y0, y0, y1, y1, y0], color="green", linewidth=2)


def pyplot_or_error() -> Any:
    try:
        from matplotlib import pyplot
    except ImportError:
        raise MissingExtra("drawing with matplotlib needs the extra: pip install 'pointcut[plot]'") from None
    return pyplot

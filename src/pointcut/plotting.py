"""Masks and prompts in matplotlib figures (extra: `plot`)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from .errors import MissingExtra
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
    plt = _pyplot()
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


def _show_prompt(prompt: Prompt, axis: Axes) -> None:
    for colour, wanted in (("green", prompt.labels == FOREGROUND), ("red", prompt.labels != FOREGROUND)):
        points = prompt.points[wanted]
        axis.scatter(points[:, 0], points[:, 1], color=colour, marker="*", s=300, edgecolor="white", linewidth=1.25)
    if prompt.box is not None:
        x0, y0, x1, y1 = prompt.box.tolist()
        axis.plot([x0, x1, x1, x0, x0], [y0, y0, y1, y1, y0], color="green", linewidth=2)


def _pyplot() -> Any:
    try:
        from matplotlib import pyplot
    except ImportError:
        raise MissingExtra("drawing with matplotlib needs the extra: pip install 'pointcut[plot]'") from None
    return pyplot

"""Pictures larger than a network should see at once: windows for prompts, overlapping tiles for everything.

    with open_large("city.tif") as picture:
        cut = everything_in(model, picture)                     # automatic masks of all of it
        roof = segment_in(model, picture, points=[(81230, 40110)])  # the window around a click, as large as the object needs

Memory is that of one window, and of the run lengths of what was found.
"""

from .everything import Tiling, everything_in
from .prompted import Windowed, segment_in

__all__ = ["Tiling", "Windowed", "everything_in", "segment_in"]

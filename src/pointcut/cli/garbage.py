"""When Python looks for garbage: seldom while the command runs, not at all when it leaves, as usual in a server."""

from __future__ import annotations

import atexit
import gc

USUAL = gc.get_threshold()

SELDOM = 100_000
"""New objects before Python looks; 700 to 2000 by itself. A start makes some 200,000 that all stay, and looking through them
again and again is a tenth of it. What pictures and films take leaves no cycles behind, so nothing waits longer to be freed."""


def collect_seldom() -> None:
    """Before PyTorch is imported."""
    gc.set_threshold(SELDOM)
    atexit.register(gc.freeze)  # else all that PyTorch has made is looked through once more at the end, for 0.4 s


def collect_as_usual() -> None:
    """For what serves strangers for weeks: what is there by now stays, what requests leave behind goes soon."""
    gc.freeze()
    gc.set_threshold(*USUAL)

"""Segments of many pictures with their vectors, to be found again.

    store = open_store("library", encoder="nano/3f2a", dimension=352)
    store.add(entries, vectors)
    hits = store.search(vector, 10, Where(min_area=500))

Two stores keep the same promises: `exact`, a folder of plain files that is searched whole, without any extra; and `lance`
(LanceDB, the extra `search`), for many, with an approximate search, in a folder or on object storage. What was added is there,
or is not, whenever a process is killed; the same entry is added once; several processes may add at once.
"""

from .entries import Entry, Hit, Where, entry_id
from .store import About, Store, find_store, open_store

__all__ = ["About", "Entry", "Hit", "Store", "Where", "entry_id", "find_store", "open_store"]

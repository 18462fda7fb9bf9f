"""The library's verbs, answered by a server (extra: `client`)."""

from .connection import Client
from .films import RemoteTracker
from .images import RemoteImage, RemoteSegments

__all__ = ["Client", "RemoteImage", "RemoteSegments", "RemoteTracker"]

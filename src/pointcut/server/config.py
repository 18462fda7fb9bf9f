"""What an operator chooses: addresses, tokens, limits. Nothing of it can be raised by a request."""

from __future__ import annotations

from dataclasses import dataclass, field
from ipaddress import ip_address

from ..describe import Describing
from ..errors import InputError
from ..images import MAX_PIXELS

MB = 1_000_000


@dataclass(frozen=True)
class Limits:
    """How much one request, and all of them together, may ask for."""

    body: int = 50 * MB
    """Bytes of a request that carries a picture."""
    film: int = 500 * MB
    """Bytes of a film; it is kept in a temporary folder, not in memory."""
    json: int = 2 * MB
    """Bytes of any other request."""
    pixels: int = MAX_PIXELS
    """Of a picture, or of a film's frame."""
    frames: int = 20_000
    """Of a film that are tracked."""
    receipt: float = 15.0
    """Seconds for a request's head, and for its body as long as that keeps below `slowest`."""
    slowest: int = 256_000
    """Bytes a second that a longer body must keep up on average."""
    decode: float = 10.0
    """Seconds until a picture that is not decoded is given up."""
    compute: float = 60.0
    """Seconds until an answer that is not there is given up; for a film, until its next frame."""
    search: float = 300.0
    """Seconds for everything in a picture."""
    describe: float = 120.0
    """Seconds until a description that is not whole is given up."""
    queue: int = 64
    """Requests that wait for each lane; the next ones are sent away with 429."""
    together: int = 4
    """Pictures that are encoded at once, if so many wait."""
    memory: int = 1 << 30
    """Bytes of uploads that are being decoded and encoded, all together."""
    cache: int = 1 << 30
    """Bytes of encoded pictures, all together; the least recently used go first."""
    films: int = 4
    """Films that are open at once."""
    idle: float = 1800.0
    """Seconds after which a film that nobody asks for is closed."""
    drain: float = 30.0
    """Seconds that requests have to finish after SIGTERM."""
    connections: int = 512
    """Open at once."""


@dataclass(frozen=True)
class ServerConfig:
    """Raises InputError where it would be unsafe."""

    host: str = "127.0.0.1"
    port: int = 7788
    tokens: tuple[str, ...] = field(default=(), repr=False)
    """Secrets of the people and programs that may ask; pictures of one are not seen by another. None: whoever is on this
    machine."""
    hosts: tuple[str, ...] = ()
    """Names, besides its own address, by which the server may be called."""
    urls: bool = False
    """Whether a request may name a picture by its address; only public addresses are fetched."""
    label_studio: str = ""
    """The address of a Label Studio whose pictures may be fetched."""
    label_studio_key: str = field(default="", repr=False)
    index: str = ""
    """The place of an index (`index.open_store`) that everybody who may ask may search."""
    describe: Describing | None = None
    """Who is asked about parts of pictures."""
    limits: Limits = Limits()

    def __post_init__(self) -> None:
        if not self.local and not self.tokens:
            raise InputError(
                f"{self.host} can be reached by others: give a secret with --token or POINTCUT_TOKEN, or stay on 127.0.0.1"
            )
        if any(len(token) < 8 for token in self.tokens):
            raise InputError("a token needs at least 8 characters; `openssl rand -hex 16` makes a good one")
        if not 0 <= self.port < 65536:
            raise InputError(f"a port is 0 to 65535, got {self.port}")

    @property
    def local(self) -> bool:
        """Whether only this machine can reach it."""
        if self.host == "localhost":
            return True
        try:
            return ip_address(self.host).is_loopback
        except ValueError:
            return False

    @property
    def allowed_hosts(self) -> frozenset[str] | None:
        """Names that a request's Host header may have; None: any, since every request must bring a token."""
        if not self.local and not self.hosts:
            return None
        return frozenset({"localhost", "127.0.0.1", "[::1]", self.host, *(name.lower() for name in self.hosts)})

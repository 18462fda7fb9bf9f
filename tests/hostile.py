"""Files made to hurt, made in code."""

from __future__ import annotations

import io
import struct
import zlib

import numpy as np
from PIL import Image


def chunk(kind: bytes, body: bytes) -> bytes:
    return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))


def png(width: int, height: int, data: bytes = b"", depth: int = 8, colour: int = 0, before: bytes = b"") -> bytes:
    """A PNG with that header, whatever its data are."""
    head = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, depth, colour, 0, 0, 0))
    return b"\x89PNG\r\n\x1a\n" + head + before + chunk(b"IDAT", data) + chunk(b"IEND", b"")


def bomb() -> bytes:
    """30,000 x 30,000 pixels of nothing, in about 110 kB."""
    packer = zlib.compressobj(9)
    row = b"\0" * (1 + 30_000 // 8)
    data = b"".join(packer.compress(row * 100) for _ in range(300)) + packer.flush()
    return png(30_000, 30_000, data, depth=1)


def text_bomb() -> bytes:
    """A small picture with 200 MB of compressed text before it."""
    text = chunk(b"zTXt", b"k\0\0" + zlib.compress(b"\0" * 200_000_000, 9))
    return png(2, 2, zlib.compress(b"\0\0\0\0\0\0"), before=text)


def film_of_pictures(frames: int, kind: str = "GIF") -> bytes:
    """An animation."""
    rng = np.random.default_rng(0)
    first, *others = (Image.fromarray(rng.integers(0, 255, (4, 4, 3), dtype=np.uint8)) for _ in range(frames))
    file = io.BytesIO()
    first.save(file, kind, save_all=True, append_images=others)
    return file.getvalue()


def tiff(*entries: tuple[int, int, int, int], next_ifd: int = 0) -> bytes:
    """A little-endian TIFF with these directory entries (tag, type, count, value)."""
    body = struct.pack("<H", len(entries)) + b"".join(struct.pack("<HHII", *entry) for entry in entries)
    return b"II*\0" + struct.pack("<I", 8) + body + struct.pack("<I", next_ifd)


SIZE = ((256, 4, 1, 4), (257, 4, 1, 4))

STRANGERS = {
    "FITS": b"SIMPLE  =                    T" + b" " * 2850,
    "EPS": b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 10 10\n",
    "PSD": b"8BPS\0\1" + b"\0" * 40,
    "PDF": b"%PDF-1.7\n" + b"0" * 100,
    "SVG": b'<svg xmlns="http://www.w3.org/2000/svg"><script>alert(1)</script><image href="file:///etc/passwd"/></svg>',
    "XXE": b'<?xml version="1.0"?><!DOCTYPE a [<!ENTITY b SYSTEM "file:///etc/passwd">]><svg>&b;</svg>',
    "DICOM": b"\0" * 128 + b"DICM" + b"\0" * 100,
    "ZIP": b"PK\3\4" + b"\0" * 100,
    "HEIC": b"\0\0\0\x18ftypheic" + b"\0" * 100,
    "pickle": b"\x80\x04cos\nsystem\n(S'true'\ntR.",
    "text": b"hello",
}
"""Files of kinds that are not read, whatever they are called."""

PLAYLISTS = {
    "m3u8": "#EXTM3U\n#EXT-X-MEDIA-SEQUENCE:0\n#EXTINF:1.0,\nhttp://{canary}/secret.ts\n#EXTINF:1.0,\nfile:///etc/passwd\n",
    "ffconcat": "ffconcat version 1.0\nfile 'http://{canary}/secret.mp4'\nfile '/etc/passwd'\n",
}
"""What would make FFmpeg read elsewhere."""

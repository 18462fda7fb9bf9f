"""Anything to RGB, and nothing hostile further than an error. Every hostile file is made here, in code."""

from __future__ import annotations

import io
import random
import struct
import zlib
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from pointcut.errors import ImageTooLarge, PointcutError, UnreadableImage
from pointcut.images import FORMATS, Frame, open_image


def encoded(image: Image.Image, kind: str, **options: object) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, format=kind, **options)
    return buffer.getvalue()


def png_header(width: int, height: int) -> bytes:
    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(b"")) + chunk(b"IEND", b"")


@pytest.fixture
def ramp() -> Image.Image:
    """Red grows to the right, green downwards: 40 wide, 30 high."""
    x, y = np.meshgrid(np.arange(40) * 6, np.arange(30) * 8)
    return Image.fromarray(np.stack([x, y, np.full_like(x, 77)], axis=2).astype(np.uint8))


@pytest.mark.parametrize("how", ["path", "text", "bytes", "file", "pil", "array"])
def test_sources(how: str, ramp: Image.Image, tmp_path: Path) -> None:
    ramp.save(tmp_path / "x.png")
    data = (tmp_path / "x.png").read_bytes()
    source = {
        "path": tmp_path / "x.png",
        "text": str(tmp_path / "x.png"),
        "bytes": data,
        "file": io.BytesIO(data),
        "pil": ramp,
        "array": np.asarray(ramp),
    }[how]
    got = open_image(source)
    np.testing.assert_array_equal(got, np.asarray(ramp))
    assert got.dtype == np.uint8
    assert not got.flags.writeable


def test_an_array_is_not_frozen_or_shared() -> None:
    mine = np.zeros((5, 6, 3), np.uint8)
    got = open_image(mine)
    mine[:] = 9
    assert mine.flags.writeable
    assert not got.any()


@pytest.mark.parametrize("kind", sorted(set(FORMATS) - {"GIF"}))
def test_kinds_of_files(kind: str, ramp: Image.Image) -> None:
    got = open_image(encoded(ramp, kind))
    assert np.abs(got.astype(int) - np.asarray(ramp)).mean() < 12  # lossy kinds are near


def test_modes(ramp: Image.Image) -> None:
    rgb = np.asarray(ramp)
    grey = np.asarray(ramp.convert("L"))
    np.testing.assert_array_equal(open_image(ramp.convert("L")), np.repeat(grey[..., None], 3, axis=2))
    assert set(np.unique(open_image(ramp.convert("1")))) <= {0, 255}
    assert np.abs(open_image(ramp.convert("P", palette=Image.Palette.ADAPTIVE)).astype(int) - rgb).mean() < 12
    assert np.abs(open_image(encoded(ramp.convert("CMYK"), "TIFF")).astype(int) - rgb).mean() < 3
    np.testing.assert_array_equal(open_image(np.asarray(ramp)[..., 0]), np.repeat(rgb[..., :1], 3, axis=2))
    np.testing.assert_array_equal(open_image(np.asarray(ramp)[..., :1]), np.repeat(rgb[..., :1], 3, axis=2))


@pytest.mark.parametrize("mode", ["RGBA", "LA", "P"])
def test_transparency_lies_over_white(mode: str) -> None:
    image = Image.new("RGBA", (8, 4), (10, 20, 30, 255))
    image.paste((200, 0, 0, 0), (0, 0, 4, 4))
    image = image.convert(mode)
    if mode == "P":  # a palette marks one of its colours as the transparent one
        image = Image.new("P", (8, 4), 1)
        image.putpalette([200, 0, 0, 10, 20, 30])
        image.paste(0, (0, 0, 4, 4))
        image.info["transparency"] = 0
    for source in (image, encoded(image, "PNG")):
        got = open_image(source)
        assert (got[:, :4] == 255).all()
        assert (got[:, 5:] < 40).all()


@pytest.mark.parametrize("kind", ["PNG", "TIFF"])
def test_sixteen_bits_are_stretched_and_not_clipped(kind: str) -> None:
    deep = np.linspace(1000, 5000, 64 * 48).reshape(48, 64).astype(np.uint16)
    for source in (encoded(Image.fromarray(deep), kind), deep):
        got = open_image(source)[..., 0]
        assert (got.min(), got.max()) == (0, 255)
        assert len(np.unique(got)) == 256


def test_float_pictures_are_stretched() -> None:
    got = open_image(encoded(Image.fromarray(np.array([[0.5, np.nan], [2.5, 1.5]], np.float32)), "TIFF"))[..., 0]
    assert got.tolist() == [[0, 0], [255, 128]]


@pytest.mark.parametrize("orientation", range(1, 9))
def test_exif_orientation(orientation: int, ramp: Image.Image) -> None:
    """However the camera was held, the picture comes upright."""
    turn = {2: 0, 3: 3, 4: 1, 5: 5, 6: 2, 7: 6, 8: 4}
    stored = ramp
    if orientation > 1:
        inverse = {0: 0, 1: 1, 2: 2, 3: 3, 4: 4, 5: 5, 6: 6}[turn[orientation]]
        stored = ramp.transpose(Image.Transpose(inverse))
    exif = Image.Exif()
    exif[0x0112] = orientation
    np.testing.assert_array_equal(open_image(encoded(stored, "PNG", exif=exif.tobytes())), np.asarray(ramp))


def test_broken_exif_is_ignored(ramp: Image.Image) -> None:
    data = encoded(ramp, "JPEG", exif=b"Exif\0\0II*\0\x08\0\0\0\xff\xff" + b"\xff" * 40)
    assert open_image(data).shape == (30, 40, 3)


def test_first_frame_of_an_animation() -> None:
    frames = [Image.new("RGB", (40, 30), c) for c in ("red", "green", "blue")]
    for kind in ("GIF", "PNG", "WEBP"):
        got = open_image(encoded(frames[0], kind, save_all=True, append_images=frames[1:]))
        assert got.shape == (30, 40, 3)
        assert got[0, 0, 0] > 200


@pytest.mark.parametrize("size", [(65500, 65500), (30000, 30000), (10000, 6401)])
def test_too_many_pixels_are_refused_before_decoding(size: tuple[int, int]) -> None:
    with pytest.raises(ImageTooLarge, match="limit"):
        open_image(png_header(*size))


def test_the_limit_can_be_set(ramp: Image.Image) -> None:
    with pytest.raises(ImageTooLarge, match="40 x 30"):
        open_image(ramp, max_pixels=1199)
    with pytest.raises(ImageTooLarge):
        open_image(np.asarray(ramp), max_pixels=1199)
    assert open_image(ramp, max_pixels=1200).shape == (30, 40, 3)


@pytest.mark.parametrize("share", [0.1, 0.5, 0.9])
@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP"])
def test_cut_off_files(kind: str, share: float) -> None:
    noise = Image.fromarray(np.random.default_rng(0).integers(0, 255, (64, 64, 3), dtype=np.uint8))
    data = encoded(noise, kind)
    with pytest.raises(UnreadableImage):
        open_image(data[: int(share * len(data))])


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"hello",
        b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n",
        b"%PDF-1.7\n",
        b"SIMPLE  =                    T" + b" " * 50,
        b"8BPS\0\1" + b"\0" * 40,
        b'<svg xmlns="http://www.w3.org/2000/svg"><script>1</script></svg>',
        b"\0\0\0\x18ftypheic" + b"\0" * 40,
    ],
    ids=["empty", "text", "eps", "pdf", "fits", "psd", "svg", "heic"],
)
def test_other_files_are_refused(data: bytes, tmp_path: Path) -> None:
    path = tmp_path / "x.png"
    path.write_bytes(data)
    with pytest.raises(UnreadableImage, match=r"x\.png"):
        open_image(path)


def test_text_bomb(ramp: Image.Image) -> None:
    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    data = encoded(ramp, "PNG")
    bomb = chunk(b"zTXt", b"a\0\0" + zlib.compress(b"A" * (200 << 20), 9))
    with pytest.raises(UnreadableImage):
        open_image(data[:33] + bomb + data[33:])


@pytest.mark.parametrize(
    "array",
    [np.zeros((4, 4), np.float32), np.zeros((4, 4, 5), np.uint8), np.zeros((0, 4, 3), np.uint8), np.zeros(4, np.uint8)],
    ids=["float", "five-channels", "no-rows", "one-axis"],
)
def test_wrong_arrays(array: np.ndarray) -> None:
    with pytest.raises(UnreadableImage, match=r"expected|uint8"):
        open_image(array)


def test_wrong_things(tmp_path: Path) -> None:
    with pytest.raises(UnreadableImage, match="no such file"):
        open_image(tmp_path / "nope.jpg")
    with pytest.raises(UnreadableImage, match=r"no such file; addresses are not fetched, download it first"):
        open_image("https://example.org/a.jpg")
    with pytest.raises(UnreadableImage, match="folder"):
        open_image(tmp_path)
    with pytest.raises(UnreadableImage, match="expected a path"):
        open_image(7)  # type: ignore[arg-type]


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP", "TIFF", "BMP", "GIF", "PPM"])
def test_mutated_files_give_pixels_or_a_typed_error(kind: str, ramp: Image.Image) -> None:
    data, dice = encoded(ramp, kind), random.Random(kind)
    for _ in range(150):
        broken = bytearray(data)
        for _ in range(dice.randint(1, 8)):
            broken[dice.randrange(len(broken))] = dice.randrange(256)
        try:
            got = open_image(bytes(broken))
        except PointcutError:
            continue
        assert got.ndim == 3
        assert got.dtype == np.uint8


@given(
    height=st.integers(1, 3000),
    width=st.integers(1, 3000),
    fit=st.sampled_from(["squash", "pad"]),
    x=st.floats(0, 1),
    y=st.floats(0, 1),
)
@settings(max_examples=200)
def test_frames_keep_points_inside(height: int, width: int, fit: str, x: float, y: float) -> None:
    frame = Frame(height, width, 1024, fit)  # type: ignore[arg-type]
    content_height, content_width = frame.content
    assert max(frame.content) == 1024
    point = frame.points_to_model(np.array([x * width, y * height]))
    np.testing.assert_allclose(point, (x * content_width, y * content_height), atol=1e-3)
    box = frame.boxes_to_model(np.array([[0, 0, width, height]]))
    np.testing.assert_allclose(box, [[0, 0, content_width, content_height]], atol=1e-3)

"""Files that photographs do not come in: deep values, pages, HEIC, DICOM, GeoTIFF; and that nothing of patients gets out."""

from __future__ import annotations

import io
import json
import sys
from pathlib import Path

import numpy as np
import pydicom
import pytest
import rasterio
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image
from pillow_heif import from_pillow
from pydicom.uid import RLELossless
from rasterio.transform import from_origin
from typer.testing import CliRunner

import pointcut
from pointcut.cli.main import app
from pointcut.export import Record, open_writers
from pointcut.images import MapPlace, Reading
from pointcut.reading import pages_of, read_picture
from pointcut.reading.large import Whole, open_large
from pointcut.scaling import Limits, Scaling, to_bytes
from scans import dicom

from conftest import PHOTOS


@given(st.lists(st.floats(-1e6, 1e6), min_size=2, max_size=30), st.sampled_from(["extent", "full", "2%,98%", "-100,400"]))
def test_scaling_keeps_order_and_bounds(values: list[float], text: str) -> None:
    array = np.array(values)
    scaling = Scaling.parse(text)
    limits = scaling.limits(array)
    out = to_bytes(array, limits)
    order = np.argsort(array)
    assert (np.diff(out[order].astype(int)) >= 0).all()
    if limits.white > limits.black:
        assert (out[array <= limits.black] == 0).all()
        assert (out[array >= limits.white] == 255).all()


def test_scaling_in_words() -> None:
    assert Scaling.parse("2%,98%") == Scaling("percent", 2, 98)
    assert Scaling.parse(" -100 , 400 ") == Scaling("window", -100, 400)
    assert Scaling("full").limits(np.zeros(3, np.uint16)) == Limits(0, 65535)
    assert Scaling("full").limits(np.zeros(3, np.float32)) == Limits(0, 1)
    assert Scaling().limits(np.array([np.nan, 3.0, 7.0, np.inf])) == Limits(3, 7)
    np.testing.assert_array_equal(to_bytes(np.array([np.nan, 3.0, 5.0, 99.0]), Limits(3, 7)), [0, 0, 128, 255])
    for wrong in ("bright", "2%,98", "5,5", "9,2", "-1%,50%", "nan,5"):
        with pytest.raises(pointcut.InputError):
            Scaling.parse(wrong)


def test_deep_grey_is_scaled_as_asked_and_said(tmp_path: Path) -> None:
    values = np.linspace(100, 1100, 600).reshape(20, 30).astype(np.uint16)
    Image.fromarray(values).save(tmp_path / "a.png")
    picture = read_picture(tmp_path / "a.png")
    assert picture.told() == {"black_white": [100.0, 1100.0]}
    assert (picture.pixels.min(), picture.pixels.max()) == (0, 255)
    picture = read_picture((tmp_path / "a.png").read_bytes(), Reading(scaling=Scaling.parse("0,2200")))
    np.testing.assert_array_equal(picture.pixels[..., 1], np.round(values * (255 / 2200)))
    assert not picture.pixels.flags.writeable


def test_pages(tmp_path: Path) -> None:
    path = tmp_path / "scan.tif"
    pages = [Image.new("L", (30 + i, 20), 10 * i) for i in range(3)]
    pages[0].save(path, save_all=True, append_images=pages[1:])
    assert pages_of(path) == 3
    for page in range(3):
        picture = read_picture(path, Reading(page=page))
        assert picture.pixels.shape == (20, 30 + page, 3)
        assert picture.pixels[0, 0, 0] == 10 * page
        assert picture.told() == {"page": page}
    with pytest.raises(pointcut.InputError, match="has no page 3"):
        read_picture(path, Reading(page=3))
    gif = tmp_path / "a.gif"
    Image.new("L", (9, 9), 1).save(gif, save_all=True, append_images=[Image.new("L", (9, 9), 200)])
    assert read_picture(gif).told() == {"page": 0}, "of an animation the first frame, and it is said"
    assert read_picture(PHOTOS / "cat.jpg").told() == {}
    (tmp_path / "broken.tif").write_bytes(b"II*\0")
    assert pages_of(tmp_path / "broken.tif") == 1


def test_heic(tmp_path: Path) -> None:
    photo = Image.open(PHOTOS / "cat.jpg")
    from_pillow(photo).save(tmp_path / "cat.heic", quality=95)
    picture = read_picture(tmp_path / "cat.heic").pixels
    assert picture.shape == (300, 451, 3)
    assert np.abs(picture.astype(int) - np.asarray(photo)).mean() < 4
    data = (tmp_path / "cat.heic").read_bytes()
    with pytest.raises(pointcut.ImageTooLarge):
        read_picture(data, Reading(max_pixels=1000))
    for cut in (40, 300, len(data) // 2):
        with pytest.raises(pointcut.UnreadableImage):
            read_picture(data[:cut], name="cut.heic")


def test_dicom_is_rescaled_windowed_and_turned(tmp_path: Path) -> None:
    stored = np.arange(0, 2400, 2, dtype=np.uint16).reshape(30, 40)
    hounsfield = stored.astype(float) - 1024
    window = {"RescaleSlope": 1, "RescaleIntercept": -1024, "WindowCenter": 40, "WindowWidth": 400}
    path = dicom(tmp_path / "ct.dcm", stored, **window)
    picture = read_picture(path)
    low, high = 40 - 0.5 - 399 / 2, 40 - 0.5 + 399 / 2  # PS3.3, C.11.2.1.2
    assert picture.limits == Limits(low, high)
    np.testing.assert_array_equal(picture.pixels[..., 0], ((hounsfield - low) * 255 / 399).clip(0, 255).round())
    asked = read_picture(path, Reading(scaling=Scaling.parse("-1024,1374")))
    np.testing.assert_array_equal(asked.pixels[..., 0], (stored * (255 / 2398)).round())
    turned = read_picture(dicom(tmp_path / "x.dcm", stored, PhotometricInterpretation="MONOCHROME1", **window))
    np.testing.assert_array_equal(turned.pixels, 255 - picture.pixels)
    several = dicom(tmp_path / "us.dcm", np.stack([stored, stored // 2]))
    assert pages_of(several) == 2
    second = read_picture(several, Reading(page=1))
    assert second.told() == {"page": 1, "black_white": [0.0, 1199.0]}
    with pytest.raises(pointcut.InputError, match="has no frame 2"):
        read_picture(several, Reading(page=2))
    packed = pydicom.dcmread(path)
    packed.compress(RLELossless)
    packed.save_as(tmp_path / "rle.dcm")
    np.testing.assert_array_equal(read_picture(tmp_path / "rle.dcm").pixels, picture.pixels)


def test_hostile_dicom(tmp_path: Path) -> None:
    stored = np.zeros((30, 40), np.uint16)
    with pytest.raises(pointcut.ImageTooLarge):
        read_picture(dicom(tmp_path / "a.dcm", stored, Rows=65535, Columns=65535))
    with pytest.raises(pointcut.BrokenImage):
        read_picture(dicom(tmp_path / "b.dcm", stored, Rows=3000, Columns=4000))
    with pytest.raises(pointcut.UnreadableImage):
        read_picture(dicom(tmp_path / "c.dcm", stored, NumberOfFrames=2**31 - 1), Reading(page=2**31 - 2))
    data = dicom(tmp_path / "d.dcm", stored).read_bytes()
    for cut in (140, 300, len(data) - 900):
        with pytest.raises(pointcut.UnreadableImage):
            read_picture(data[:cut])
    directory = pydicom.dcmread(tmp_path / "d.dcm")
    del directory.Rows, directory.PixelData
    directory.save_as(tmp_path / "DICOMDIR")
    with pytest.raises(pointcut.UnsupportedImage, match="without a picture"):
        read_picture(tmp_path / "DICOMDIR")


def test_no_patient_gets_out(tmp_path: Path) -> None:
    values = np.random.default_rng(0).integers(0, 4000, (2, 60, 80)).astype(np.uint16)
    dicom(tmp_path / "scan.dcm", values)
    arguments = ["batch", tmp_path / "scan.dcm", "--pages", "--box", "10,10,50,40", "--out", tmp_path / "out"]
    arguments += ["--format", "coco,overlay,npz,geojson,labelme,labelstudio,yolo,png,parquet"]
    result = CliRunner().invoke(app, list(map(str, arguments)))
    assert result.exit_code == 0, result.output
    dataset = json.loads((tmp_path / "out" / "annotations.json").read_text())
    assert [image["file_name"] for image in dataset["images"]] == ["scan.page0.dcm", "scan.page1.dcm"]
    written = [path for path in (tmp_path / "out").rglob("*") if path.is_file()]
    assert len(written) > 12
    for path in written:
        data = path.read_bytes()
        assert b"Doe" not in data, path
        assert b"4711" not in data, path
        assert b"20260101" not in data, path


def geotiff(path: Path, bands: np.ndarray, **more: object) -> Path:
    """bands: (C, H, W). Ten metres a pixel, in UTM zone 33."""
    settings = {"crs": "EPSG:32633", "transform": from_origin(500_000, 5_000_000, 10, 10)} | more
    shape = {"count": len(bands), "height": bands.shape[1], "width": bands.shape[2], "dtype": bands.dtype}
    with rasterio.open(path, "w", driver="GTiff", **shape, **settings) as file:
        file.write(bands)
    return path


def test_geotiff(tmp_path: Path) -> None:
    bands = np.random.default_rng(0).integers(200, 3000, (4, 50, 70)).astype(np.uint16)
    bands[:, :5] = 65535
    path = geotiff(tmp_path / "s2.tif", bands, nodata=65535)
    picture = read_picture(path)
    assert picture.place == MapPlace("EPSG:32633", (10, 0, 500_000, 0, -10, 5_000_000))
    low, high = np.percentile(bands[:3, 5:], (2, 98))
    assert picture.limits == pytest.approx((low, high), abs=1)
    assert picture.pixels[:5].max() == 0
    assert picture.pixels[5:].max() == 255
    swapped = read_picture(path.read_bytes(), Reading(bands=(4, 3, 2), scaling=Scaling.parse("0,3000")))
    np.testing.assert_array_equal(swapped.pixels[5:, :, 0], np.round(bands[3, 5:] / 3000 * 255))
    assert read_picture(path, Reading(bands=(2,))).pixels.shape == (50, 70, 3)
    for wrong in ((5,), (0, 1, 2), (1, 2)):
        with pytest.raises(pointcut.InputError, match="bands must be one or three of 1 to 4"):
            read_picture(path, Reading(bands=wrong))
    with pytest.raises(pointcut.ImageTooLarge):
        read_picture(path, Reading(max_pixels=100))
    with pytest.raises(pointcut.UnreadableImage):
        read_picture(path.read_bytes()[:900])
    told = picture.told()
    assert told["map"] == {"crs": "EPSG:32633", "transform": [10.0, 0.0, 500000.0, 0.0, -10.0, 5000000.0]}


def test_deep_colour_is_not_cut_to_its_upper_bits(tmp_path: Path) -> None:
    colour = np.full((3, 20, 30), [[[1000]], [[2000]], [[3000]]], np.uint16)
    path = geotiff(tmp_path / "deep.tif", colour, crs=None, transform=None, photometric="RGB")
    pixels = read_picture(path, Reading(scaling=Scaling.parse("0,4000"))).pixels
    np.testing.assert_array_equal(pixels[0, 0], np.round(np.array([1000, 2000, 3000]) * 255 / 4000))


def test_geojson_lies_on_the_map(tmp_path: Path) -> None:
    mask = np.zeros((1, 50, 70), bool)
    mask[0, 10:20, 30:50] = True
    mask[0, 13:16, 35:40] = False
    cut = pointcut.Segments(
        np.zeros((50, 70, 3), np.uint8),
        mask,
        np.ones(1, np.float32),
        np.ones(1, np.float32),
        np.zeros((1, 0, 0)),
        np.zeros(1, int),
    )
    place = MapPlace("EPSG:32633", (10, 0, 500_000, 0, -10, 5_000_000))
    with open_writers(tmp_path, ["geojson"]) as writers:
        writers.add(Record("a.tif", cut, ("field",), place))
    document = json.loads((tmp_path / "a.geojson").read_text())
    assert document["crs"]["properties"]["name"] == "urn:ogc:def:crs:EPSG::32633"
    outline, hole = (np.array(ring) for ring in document["features"][0]["geometry"]["coordinates"][0])
    assert outline.min(axis=0) == pytest.approx((500_300, 4_999_800), abs=5)
    assert outline.max(axis=0) == pytest.approx((500_500, 4_999_900), abs=5)

    def turn(ring: np.ndarray) -> float:
        x, y = (ring - ring[0]).T
        return float(x[:-1] @ y[1:] - x[1:] @ y[:-1])

    assert turn(outline) > 0 > turn(hole)
    assert document["features"][0]["properties"]["label"] == "field"


def test_parts_of_files_are_what_the_whole_is(tmp_path: Path) -> None:
    photo = np.asarray(Image.open(PHOTOS / "cat.jpg"))
    for name in ("a.png", "a.tif", "a.bmp"):
        Image.fromarray(photo).save(tmp_path / name)
        with open_large(tmp_path / name) as picture:
            assert (picture.height, picture.width) == photo.shape[:2]
            np.testing.assert_array_equal(picture.window(30, 40, 130, 90), photo[40:90, 30:130])
            assert picture.window(0, 0, 451, 300, (30, 45)).shape == (30, 45, 3)
            assert isinstance(picture, Whole) == (name == "a.bmp")
    turned = tmp_path / "turned.jpg"
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.fromarray(photo).save(turned, exif=exif)
    with open_large(turned) as picture:
        assert (picture.height, picture.width) == (451, 300), "EXIF turns it, so it is read whole"
    with open_large(PHOTOS / "cat.jpg") as picture:
        assert not isinstance(picture, Whole)
        assert np.abs(picture.window(0, 0, 451, 300).astype(int) - photo).mean() < 2


@pytest.mark.parametrize(("module", "name"), [("pillow_heif", "heic"), ("pydicom", "dicom"), ("rasterio", "geo")])
def test_missing_extras_are_named(module: str, name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    if name == "heic":
        from_pillow(Image.new("RGB", (64, 64))).save(tmp_path / "f")
    elif name == "dicom":
        dicom(tmp_path / "f", np.zeros((5, 5), np.uint16))
    else:
        geotiff(tmp_path / "f", np.ones((5, 9, 9), np.uint16))
    monkeypatch.setitem(sys.modules, module, None)
    how = Reading(bands=(1,)) if name == "geo" else Reading()
    with pytest.raises(pointcut.MissingExtra, match=rf"pip install 'pointcut\[{name}\]'"):
        read_picture(tmp_path / "f", how)


def test_the_library_reads_them_by_name(nano: pointcut.Segmenter, tmp_path: Path) -> None:
    from_pillow(Image.open(PHOTOS / "cat.jpg")).save(tmp_path / "cat.heic", quality=95)
    assert nano.encode(tmp_path / "cat.heic").size == (300, 451)
    assert nano.encode(io.BytesIO((PHOTOS / "cat.jpg").read_bytes())).size == (300, 451)

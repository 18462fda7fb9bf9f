"""Formats with one file a picture: GeoJSON, labelme, numpy, a map of labels, and a picture to look at."""

from __future__ import annotations

import json
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from .. import draw
from ..arrange import label_map
from ..errors import OutputError
from ..files import make_folder, replacing
from ..images import MapPlace
from .polygons import Polygon
from .record import Record, Writer, write_json


class GeoJsonWriter(Writer):
    """`STEM.geojson`: a MultiPolygon a mask, with holes.

    Of a picture that lies on the earth, in the coordinates of its map, whose system `crs` names, as GDAL and QGIS read it
    (RFC 7946 knows longitude and latitude only). Of others in pixels, x to the right, y down, without `crs`, as viewers for
    pixels take it (QuPath).
    """

    def add(self, record: Record) -> list[Path]:
        cut = record.cut
        features = [
            {
                "type": "Feature",
                "id": row,
                "geometry": {
                    "type": "MultiPolygon",
                    "coordinates": [_rings(part, record.place) for part in record.polygons(row)],
                },
                "properties": {
                    "label": record.label(row),
                    "score": round(float(cut.scores[row]), 4),
                    "stability": round(float(cut.stability[row]), 4),
                    "area": int(cut.areas[row]),
                    **record.described(row),
                },
            }
            for row in range(len(cut))
        ]
        document = {"type": "FeatureCollection", **_crs(record.place), "features": features}
        return [write_json(self.place(record, ".geojson"), document)]


def _crs(place: MapPlace | None) -> dict[str, Any]:
    if place is None or place.crs == "EPSG:4326":  # what RFC 7946 takes for granted
        return {}
    name = place.crs.replace("EPSG:", "urn:ogc:def:crs:EPSG::") if place.crs.startswith("EPSG:") else place.crs
    return {"crs": {"type": "name", "properties": {"name": name}}}


def _rings(part: Polygon, place: MapPlace | None) -> list[list[list[float]]]:
    """Outline and holes, each closed; on a map the outline runs against the clock and holes with it (RFC 7946, 3.1.6)."""
    rings = [np.concatenate([ring, ring[:1]]) for ring in (part.outline, *part.holes)]
    if place is not None:
        a, b, c, d, e, f = place.transform
        rings = [ring @ np.array([[a, d], [b, e]]) + (c, f) for ring in rings]
        rings = [ring if (_turn(ring) > 0) == (i == 0) else ring[::-1] for i, ring in enumerate(rings)]
    return [ring.tolist() for ring in rings]


def _turn(ring: np.ndarray) -> float:
    """Twice the area of a closed ring (V, 2), positive where it runs against the clock (y up)."""
    x, y = (ring - ring[0]).T  # coordinates of maps are large: their products would lose digits
    return float(x[:-1] @ y[1:] - x[1:] @ y[:-1])


class LabelmeWriter(Writer):
    """`STEM.json` as labelme saves it: one polygon a connected part, without holes; `group_id` joins the parts of a mask."""

    def add(self, record: Record) -> list[Path]:
        height, width = record.size
        shapes: list[dict[str, Any]] = [
            {
                "label": record.label(row),
                "points": part.outline.tolist(),
                "group_id": row,
                "description": "",
                **record.described(row),
                "shape_type": "polygon",
                "flags": {},
                "mask": None,
            }
            for row in range(len(record.cut))
            for part in record.polygons(row)
        ]
        document: dict[str, Any] = {
            "version": "5.5.0",
            "flags": {},
            "shapes": shapes,
            "imagePath": record.name,
            "imageData": None,
            "imageHeight": height,
            "imageWidth": width,
        }
        return [write_json(self.place(record, ".json"), document)]


class NpzWriter(Writer):
    """`STEM.npz`: `masks` (N, H, W) bool, exact, compressed one by one; scores, stability, boxes, areas; labels and
    descriptions if any."""

    def add(self, record: Record) -> list[Path]:
        cut = record.cut
        path = self.place(record, ".npz")
        small = {"scores": cut.scores, "stability": cut.stability, "boxes_xyxy": cut.boxes_xyxy, "areas": cut.areas}
        small |= {"labels": np.array(record.labels, np.str_)} if record.labels else {}
        small |= {"descriptions": np.array(record.descriptions, np.str_)} if record.descriptions else {}
        with replacing(path) as temporary, zipfile.ZipFile(temporary, "w", zipfile.ZIP_DEFLATED, compresslevel=1) as archive:
            for name, value in small.items():
                with archive.open(f"{name}.npy", "w") as file:
                    np.lib.format.write_array(file, np.asarray(value), allow_pickle=False)
            with archive.open("masks.npy", "w", force_zip64=True) as file:  # one mask in memory at a time
                header = {"descr": "|b1", "fortran_order": False, "shape": (len(cut), *record.size)}
                np.lib.format.write_array_header_1_0(file, header)
                for row in range(len(cut)):
                    file.write(np.ascontiguousarray(cut.mask(row)).tobytes())
        return [path]


class PngWriter(Writer):
    """`STEM.labels.png`: 16-bit grey, one label a pixel: 0 nothing, n the n-th mask; smaller masks lie on top.

    What the masks are, if that is said, stands in the file's text `labels`, a JSON list, the first mask's first; what a model
    said of them in `descriptions`.
    """

    def add(self, record: Record) -> list[Path]:
        if len(record.cut) > 65535:
            raise OutputError(f"{record.name}: {len(record.cut)} masks are more than a 16-bit label picture can hold")
        path = self.place(record, ".labels.png")
        draw.save(Image.fromarray(label_map(record.cut).astype(np.uint16)), path, _texts(record))
        return [path]


def _texts(record: Record) -> dict[str, str] | None:
    """Lists for all masks, as a PNG file can hold them."""
    texts = {"labels": record.labels, "descriptions": record.descriptions}
    return {name: json.dumps(values) for name, values in texts.items() if values} or None


class CutoutWriter(Writer):
    """`STEM.cutouts/001.png` and so on: each object alone, within its box, transparent around it; label and description are
    texts of the file."""

    def add(self, record: Record) -> list[Path]:
        folder = self.place(record, ".cutouts")
        make_folder(folder)
        files = []
        for row in range(len(record.cut)):
            mask, x0, y0 = record.cut.part(row)
            part = record.cut.image[y0 : y0 + mask.shape[0], x0 : x0 + mask.shape[1]]
            files.append(folder / f"{row + 1:03d}.png")
            if mask.size:
                draw.save(draw.cutout(part, mask), files[-1], {"label": record.label(row), **record.described(row)})
        return [path for path in files if path.is_file()]


class OverlayWriter(Writer):
    """`STEM.overlay.png`: every mask in its own colour, outlined, large ones below, with its name if it has one."""

    def add(self, record: Record) -> list[Path]:
        path = self.place(record, ".overlay.png")
        boxes = record.cut.boxes_xyxy.tolist()
        names = [(name, (x0 + x1) / 2, (y0 + y1) / 2) for name, (x0, y0, x1, y1) in zip(record.labels, boxes, strict=False)]
        draw.save(draw.mosaic(record.cut.image, label_map(record.cut), names), path)
        return [path]

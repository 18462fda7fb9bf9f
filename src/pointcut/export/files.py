"""Formats with one file a picture: GeoJSON, labelme, numpy, a map of labels, and a picture to look at."""

from __future__ import annotations

import zipfile
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from .. import draw
from ..arrange import label_map
from ..errors import OutputError
from ..files import replacing
from .polygons import Polygon, polygons
from .record import Record, Writer, write_json


class GeoJsonWriter(Writer):
    """`STEM.geojson`: a MultiPolygon a mask, with holes, in pixels: x to the right, y down (RFC 7946 has no such system, so
    `crs` is left out, and viewers for pixels, as QuPath's, take it as it is).
    """

    def add(self, record: Record) -> list[Path]:
        cut = record.cut
        features = [
            {
                "type": "Feature",
                "id": row,
                "geometry": {
                    "type": "MultiPolygon",
                    "coordinates": [self._rings(part) for part in polygons(cut.mask(row))],
                },
                "properties": {
                    "label": record.label(row),
                    "score": round(float(cut.scores[row]), 4),
                    "stability": round(float(cut.stability[row]), 4),
                    "area": int(cut.areas[row]),
                },
            }
            for row in range(len(cut))
        ]
        return [write_json(self.place(record, ".geojson"), {"type": "FeatureCollection", "features": features})]

    @staticmethod
    def _rings(part: Polygon) -> list[list[list[float]]]:
        """Outline and holes, each closed."""
        return [np.concatenate([ring, ring[:1]]).tolist() for ring in (part.outline, *part.holes)]


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
                "shape_type": "polygon",
                "flags": {},
                "mask": None,
            }
            for row in range(len(record.cut))
            for part in polygons(record.cut.mask(row))
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
    """`STEM.npz`: `masks` (N, H, W) bool, exact, compressed one by one, with scores, stability, boxes and areas."""

    def add(self, record: Record) -> list[Path]:
        cut = record.cut
        path = self.place(record, ".npz")
        small = {"scores": cut.scores, "stability": cut.stability, "boxes_xyxy": cut.boxes_xyxy, "areas": cut.areas}
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
    """`STEM.labels.png`: 16-bit grey, one label a pixel: 0 nothing, n the n-th mask; smaller masks lie on top."""

    def add(self, record: Record) -> list[Path]:
        if len(record.cut) > 65535:
            raise OutputError(f"{record.name}: {len(record.cut)} masks are more than a 16-bit label picture can hold")
        path = self.place(record, ".labels.png")
        draw.save(Image.fromarray(label_map(record.cut).astype(np.uint16)), path)
        return [path]


class OverlayWriter(Writer):
    """`STEM.overlay.png`: every mask in its own colour, outlined, large ones below."""

    def add(self, record: Record) -> list[Path]:
        path = self.place(record, ".overlay.png")
        draw.save(draw.mosaic(record.cut.image, label_map(record.cut)), path)
        return [path]

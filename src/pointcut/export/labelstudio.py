"""Label Studio: a list of tasks with predictions, one polygon region a connected part, in percent of width and height.

Source of the format: https://labelstud.io/guide/predictions. Polygons there have no holes; the parts of one mask share a group
(`parentID` is for nesting, so the mask's number stands in `meta`).
"""

from __future__ import annotations

from pathlib import Path

from ..files import replacing
from .record import Record, Spool, Writer


class LabelStudioWriter(Writer):
    """`labelstudio.json`, for a labelling interface with `<PolygonLabels name="label" toName="image">`."""

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        self.tasks = Spool()

    def add(self, record: Record) -> list[Path]:
        height, width = record.size
        regions = [
            {
                "id": f"{record.stem}-{row}-{number}",
                "type": "polygonlabels",
                "from_name": "label",
                "to_name": "image",
                "original_width": width,
                "original_height": height,
                "image_rotation": 0,
                "value": {
                    "points": (part.outline * 100 / (width, height)).round(4).tolist(),
                    "closed": True,
                    "polygonlabels": [record.label(row)],
                },
                "score": round(float(record.cut.scores[row]), 4),
                "meta": {"mask": row} | _notes(record.described(row)),
            }
            for row in range(len(record.cut))
            for number, part in enumerate(record.polygons(row))
        ]
        prediction = {"model_version": "pointcut", "result": regions}
        self.tasks.add({"data": {"image": record.name}, "predictions": [prediction]})
        return []

    def close(self) -> list[Path]:
        path = self.folder / "labelstudio.json"
        with replacing(path) as temporary, temporary.open("w", encoding="utf-8") as file:
            self.tasks.pour(file)
            file.write("\n")
        return [path]


def _notes(described: dict[str, str]) -> dict[str, list[str]]:
    """What Label Studio shows as the notes of a region."""
    return {"text": list(described.values())} if described else {}

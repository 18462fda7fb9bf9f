"""COCO: one dataset file for all pictures, masks as compressed run lengths, exact.

Source of the format: https://cocodataset.org/#format-data
"""

from __future__ import annotations

import json
from pathlib import Path

from ..files import replacing
from .record import Record, Spool, Writer


class CocoWriter(Writer):
    """`annotations.json`; `iscrowd` is 0 although the masks are run lengths, as most tools write it."""

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        self.images, self.annotations = Spool(), Spool()
        self.categories: dict[str, int] = {}

    def add(self, record: Record) -> list[Path]:
        height, width = record.size
        self.images.add({"id": self.images.count + 1, "file_name": record.name, "height": height, "width": width})
        cut = record.cut
        for row, (mask, area, (x0, y0, x1, y1)) in enumerate(
            zip(cut.rle(), cut.areas.tolist(), cut.boxes_xyxy.tolist(), strict=True)
        ):
            category = self.categories.setdefault(record.label(row), len(self.categories) + 1)
            self.annotations.add(
                {
                    "id": self.annotations.count + 1,
                    "image_id": self.images.count,
                    "category_id": category,
                    "segmentation": mask,
                    "area": area,
                    "bbox": [x0, y0, x1 - x0, y1 - y0],
                    "iscrowd": 0,
                    "score": round(float(cut.scores[row]), 4),
                    **record.described(row),
                }
            )
        return []

    def close(self) -> list[Path]:
        categories = [{"id": number, "name": name} for name, number in self.categories.items()]
        path = self.folder / "annotations.json"
        with replacing(path) as temporary, temporary.open("w", encoding="utf-8") as file:
            file.write('{"images": ')
            self.images.pour(file)
            file.write(', "annotations": ')
            self.annotations.pour(file)
            file.write(f', "categories": {json.dumps(categories)}}}\n')
        return [path]

"""What is said over HTTP: requests, checked before anything is computed, and answers."""

from __future__ import annotations

import io
from base64 import b64encode
from typing import Annotated, Any, Literal, TypeAlias

import numpy as np
from PIL import Image
from pydantic import BaseModel, ConfigDict, Field

from .. import rle
from ..automatic.config import AutomaticConfig, adapted_config
from ..draw import cutout, mask_picture
from ..errors import InvalidPrompt
from ..masks import boxes_xyxy
from ..segment.session import EncodedImage
from ..segments import Segments

OBJECTS, POINTS = 64, 256
"""At most in one request, and of one object."""

Number: TypeAlias = Annotated[float, Field(allow_inf_nan=False, ge=-1e6, le=1e6)]
Point: TypeAlias = Annotated[list[Number], Field(min_length=2, max_length=2)]
Box: TypeAlias = Annotated[list[Number], Field(min_length=4, max_length=4)]
Label: TypeAlias = Literal[0, 1]
Points: TypeAlias = Annotated[list[Point], Field(min_length=1, max_length=POINTS)]
Labels: TypeAlias = Annotated[list[Label], Field(min_length=1, max_length=POINTS)]
Output: TypeAlias = Literal["rle", "png", "cutout", "polygons", "preview"]


class Wire(BaseModel):
    """Unknown names are errors: a typo is not swallowed."""

    model_config = ConfigDict(extra="forbid", use_attribute_docstrings=True)


class WireRle(Wire):
    """A mask as COCO stores it."""

    size: Annotated[list[Annotated[int, Field(ge=1, le=1 << 20)]], Field(min_length=2, max_length=2)]
    """[height, width]."""
    counts: Annotated[str, Field(max_length=2_000_000)]


class PromptRequest(Wire):
    """What is pointed at: of one object, or of many as lists of lists. Coordinates are pixels of the upright picture, x, y."""

    points: Points | Annotated[list[Points], Field(min_length=1, max_length=OBJECTS)] | None = None
    labels: Labels | Annotated[list[Labels], Field(min_length=1, max_length=OBJECTS)] | None = None
    """1 this, 0 not this; all 1 by default."""
    boxes: Box | Annotated[list[Box], Field(min_length=1, max_length=OBJECTS)] | None = None
    """x0, y0, x1, y1."""


class SegmentRequest(PromptRequest):
    """A prompt, and how it is to be answered."""

    model_config = ConfigDict(
        extra="forbid",
        json_schema_extra={
            "examples": [
                {"points": [[225, 110]]},
                {"points": [[225, 110], [225, 190]], "labels": [1, 0], "previous": "81234"},
                {"boxes": [[150, 10, 305, 195], [370, 0, 450, 190]], "output": ["rle", "polygons"], "candidates": "best"},
            ]
        },
    )

    mask: WireRle | Annotated[list[WireRle], Field(min_length=1, max_length=OBJECTS)] | None = None
    """A rough mask of the picture's size."""
    previous: Annotated[str, Field(max_length=20)] | None = None
    """`result` of an earlier answer about this picture, to be refined, or `result/row` for one of its masks; give all clicks so
    far with it."""
    multimask: bool | None = None
    """Three candidates an object, or one; null: three where a single click is all there is."""
    zoom: bool = False
    """Draw the best mask of each object anew from what is around it, encoded on its own: finer, above all small things."""
    output: Annotated[list[Output], Field(min_length=1, max_length=5)] = ["rle"]
    """`preview` stands alone: one small mask of one object, for hovering."""
    candidates: Literal["all", "best"] = "all"


class OneShotRequest(SegmentRequest):
    """A prompt together with its picture."""

    image: Annotated[str, Field(min_length=4)] | None = None
    """The file in base64."""
    url: Annotated[str, Field(max_length=2000)] | None = None
    """Its address, where the server may fetch addresses."""
    model: Annotated[str, Field(max_length=100)] | None = None


class ImageRequest(Wire):
    """A picture that is not sent as it is."""

    image: Annotated[str, Field(min_length=4)] | None = None
    """The file in base64."""
    url: Annotated[str, Field(max_length=2000)] | None = None
    """Its address, where the server may fetch addresses."""
    model: Annotated[str, Field(max_length=100)] | None = None


class CleanRequest(Wire):
    """A mask that may have holes and specks."""

    mask: WireRle
    """Of the picture's size."""
    min_region: Annotated[int, Field(ge=1, le=1 << 40)] | None = None
    """Holes and islands of fewer pixels go; null: a thousandth of the picture."""


class CleanAnswer(BaseModel):
    """The mask without them."""

    rle: WireRle
    area: int
    box_xyxy: list[float]


Share: TypeAlias = Annotated[float, Field(ge=0, le=1)]


class EverythingRequest(Wire):
    """How a picture is searched: the names of `AutomaticConfig`, of which whatever is left out suits the model."""

    model_config = ConfigDict(extra="forbid", json_schema_extra={"examples": [{}, {"points_per_side": 24}]})

    points_per_side: Annotated[int, Field(ge=1, le=64)] | None = None
    pred_iou_thresh: Share | None = None
    stability_score_thresh: Share | None = None
    stability_score_offset: Annotated[float, Field(ge=0, le=10)] | None = None
    box_nms_thresh: Share | None = None
    crop_n_layers: Annotated[int, Field(ge=0, le=1)] | None = None
    crop_n_points_downscale_factor: Annotated[int, Field(ge=1, le=4)] | None = None
    min_mask_region_area: Annotated[int, Field(ge=0, le=1_000_000)] | None = None
    skip_covered: bool | None = None

    def config(self, model: str) -> AutomaticConfig:
        return adapted_config(model, dict(self))


class MaskAnswer(BaseModel):
    """One mask."""

    object: int
    score: float
    """The IoU with the true mask that the model expects, 0..1."""
    stability: float
    area: int
    box_xyxy: list[float]
    rle: WireRle | None = None
    png: str | None = None
    """8-bit grey, base64."""
    cutout: str | None = None
    """RGBA, cropped to `box_xyxy`, base64."""
    polygons: list[dict[str, Any]] | None = None
    """Connected parts, largest first: {"outline": [[x, y], ...], "holes": [...]}."""


class SegmentAnswer(BaseModel):
    """Masks of all objects."""

    id: str
    result: str
    """What `previous` takes."""
    width: int
    height: int
    model: str
    best: list[int]
    """Rows of `masks`: the best of each object."""
    masks: list[MaskAnswer]
    seconds: dict[str, float]


class ImageAnswer(BaseModel):
    """A picture that can be asked."""

    id: str
    width: int
    height: int
    model: str
    cached: bool
    seconds: dict[str, float]


class ProblemAnswer(BaseModel):
    """https://www.rfc-editor.org/rfc/rfc9457"""

    type: str
    title: str
    status: int
    code: str
    detail: str
    request_id: str


def masks_in(mask: WireRle | list[WireRle] | None, size: tuple[int, int]) -> np.ndarray | None:
    """Masks of a picture, bool (N, H, W). The size is compared before anything is drawn. Raises InvalidPrompt or InputError."""
    if mask is None:
        return None
    several = mask if isinstance(mask, list) else [mask]
    for one in several:
        if tuple(one.size) != size:
            raise InvalidPrompt(f"a mask must have the picture's size {list(size)} (height, width); got {one.size}")
    return np.stack([rle.decode({"size": one.size, "counts": one.counts}) for one in several])


def segments_out(cut: Segments, output: list[Output]) -> list[dict[str, Any]]:
    """Each mask as it was asked for. Raises MissingExtra for polygons without OpenCV."""
    answers = []
    for row in range(len(cut)):
        answer = {"object": int(cut.objects[row]), **cut.figures(row)}
        mask = cut.mask(row)
        if "rle" in output:
            answer["rle"] = rle.encode(mask) if isinstance(cut.stored, np.ndarray) else cut.stored[row]
        if "png" in output:
            answer["png"] = png(mask_picture(mask))
        if "cutout" in output:
            x0, y0, x1, y1 = boxes_xyxy(mask[None])[0].astype(int)
            part = slice(y0, max(y1, y0 + 1)), slice(x0, max(x1, x0 + 1))
            answer["cutout"] = png(cutout(cut.image[part], mask[part]))
        if "polygons" in output:
            from ..export.polygons import polygons

            found = polygons(mask)
            answer["polygons"] = [{"outline": p.outline.tolist(), "holes": [h.tolist() for h in p.holes]} for p in found]
        answers.append(answer)
    return answers


def png(picture: Image.Image) -> str:
    """Base64."""
    buffer = io.BytesIO()
    picture.save(buffer, format="PNG", compress_level=3)
    return b64encode(buffer.getvalue()).decode()


def preview_out(photo: EncodedImage, prompt: PromptRequest) -> dict[str, Any]:
    """The small mask that lies under the pointer."""
    seen = photo.preview(points=prompt.points, labels=prompt.labels, boxes=prompt.boxes)
    return {"preview": {"score": round(seen.score, 4), "rle": rle.encode(seen.mask)}}

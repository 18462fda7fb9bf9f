"""`/label-studio`: what Label Studio asks of a machine-learning backend, for its smart key points and rectangles.

Protocol: https://github.com/HumanSignal/label-studio-ml-backend. The address and token that `/setup` brings are not used:
pictures are fetched only from the Label Studio that the operator named, with the key that the operator gave.
"""

from __future__ import annotations

import secrets
from typing import Any
from urllib.parse import urljoin
from xml.etree import ElementTree

from fastapi import APIRouter, Request
from starlette.responses import JSONResponse, Response

from ..errors import InvalidPrompt
from ..segment.session import EncodedImage
from .brush import brush_rle
from .fetch import fetch, fetch_checked, origin, parse
from .pictures import Served
from .problems import Problem
from .service import Service
from .shelf import Share
from .uploads import from_base64, parsed
from .wire import segments_out

router = APIRouter(prefix="/label-studio", include_in_schema=False)

EVENTS = ("ANNOTATION_CREATED", "ANNOTATION_UPDATED", "ANNOTATION_DELETED", "START_TRAINING")
OUTPUTS = ("BrushLabels", "BitmaskLabels")


@router.get("/")
@router.get("/health")
async def health() -> Response:
    return JSONResponse({"status": "UP", "model_class": "SegmenterBackend"})


@router.get("/metrics")
async def no_metrics() -> Response:
    return JSONResponse({})


@router.get("/versions")
async def versions(service: Served) -> Response:
    return JSONResponse({"versions": list(service.models)})


@router.post("/setup")
async def setup(service: Served) -> Response:
    """What Label Studio tells of itself, its user's token among it, is neither read nor kept."""
    return JSONResponse({"model_version": service.default})


@router.post("/webhook")
async def webhook(request: Request) -> Response:
    said = parsed(await request.body())
    if not isinstance(said, dict) or said.get("action") not in EVENTS:
        return JSONResponse({"status": "Unknown event"})
    return JSONResponse({"result": {}, "status": "ok"}, 201)


@router.post("/predict")
async def predict(request: Request, service: Served) -> Response:
    """The mask for the key points and the rectangle of the context."""
    with service.receiving(request) as share:
        return JSONResponse(await predicted(request, service, share))


async def predicted(request: Request, service: Service, share: Share) -> dict[str, Any]:
    """Raises Problem, or what segmenting raises."""
    said = parsed(await request.body())
    try:
        context = (said.get("params") or {}).get("context") or {}
        regions = context.get("result") or []
        if not regions:
            return {"results": []}  # nothing was clicked yet
        (task,) = said["tasks"]
        tags = Tags(said["label_config"])
        data = await picture_of(task["data"][tags.value], service)
        found = await service.upload(request, share, data, None)
        photo = found.kept.photo
        region = await service.ask(request, service.clicks, lambda: answered(photo, regions, tags))
    except (AttributeError, KeyError, TypeError, ValueError, IndexError) as error:
        if isinstance(error, InvalidPrompt):
            raise
        raise Problem(422, "invalid_request", f"not what Label Studio sends ({type(error).__name__}: {error})") from None
    answer = {"model_version": service.default, "score": region["score"], "result": [region]}
    return {"results": [answer]}


class Tags:
    """What the labelling interface calls things. Raises Problem 422."""

    def __init__(self, config: str) -> None:
        if "<!" in config.replace("<!--", ""):
            raise Problem(422, "invalid_request", "a labelling interface has no document type")
        try:
            root = ElementTree.fromstring(config)
        except ElementTree.ParseError as error:
            raise Problem(422, "invalid_request", f"the labelling interface is not XML ({error})") from None
        found = [tag for tag in root.iter() if tag.tag in OUTPUTS]
        if not found:
            raise Problem(422, "no_mask_tag", "the labelling interface needs <BrushLabels> or <BitmaskLabels> for the masks")
        self.kind, self.name, self.target = found[0].tag, found[0].attrib["name"], found[0].attrib["toName"]
        image = next(tag for tag in root.iter("Image") if tag.attrib["name"] == self.target)
        self.value = image.attrib["value"].removeprefix("$")
        self.labels = [label.attrib["value"] for label in found[0].iter("Label")]


async def picture_of(address: str, service: Service) -> bytes:
    """A task's picture: in the task itself, or at the Label Studio that the operator named. Raises Problem."""
    config = service.config
    if address.startswith("data:"):
        return from_base64(address)
    if config.label_studio:
        home = origin(parse(config.label_studio))
        whole = urljoin(config.label_studio, address)
        if not whole.startswith(("http://", "https://")):
            raise Problem(422, "unreachable_picture", "only uploaded files and http(s) addresses are read, not cloud storage")
        if origin(parse(whole)) == home:
            headers = {"Authorization": f"Token {config.label_studio_key}"} if config.label_studio_key else {}
            return await fetch_checked(whole, config.limits.body, headers, home)
    elif address.startswith("/"):
        raise Problem(403, "url_fetch_disabled", "start the server with --label-studio ADDRESS to let it read tasks' pictures")
    return await fetch(address, config)


def answered(photo: EncodedImage, regions: list[dict[str, Any]], tags: Tags) -> dict[str, Any]:
    """One region for all that was clicked; its places are in percent of the picture's size. Raises InvalidPrompt."""
    height, width = photo.size
    points, labels, box, label = [], [], None, None
    for region in regions:
        kind, value = region["type"], region["value"]
        x, y = value["x"] * width / 100, value["y"] * height / 100
        if kind in ("keypointlabels", "keypoint"):
            points.append((min(x, width), min(y, height)))
            labels.append(int(bool(region.get("is_positive", value.get("positive", True)))))
        elif kind in ("rectanglelabels", "rectangle"):
            box = (x, y, x + value["width"] * width / 100, y + value["height"] * height / 100)
        label = next(iter(value.get(kind) or value.get("labels") or []), label)
    cut = photo.segment(points or None, labels or None, box).best
    output = tags.kind.lower()
    value = {output: [label if label is not None else (tags.labels or ["object"])[0]]}
    if tags.kind == "BrushLabels":
        value |= {"format": "rle", "rle": brush_rle(cut.mask(0))}
    else:
        (answer,) = segments_out(cut, ["png"])
        value |= {"imageDataURL": f"data:image/png;base64,{answer['png']}", "width": width, "height": height}
    return {
        "id": secrets.token_hex(5),
        "type": "brushlabels" if tags.kind == "BrushLabels" else "bitmask",
        "from_name": tags.name,
        "to_name": tags.target,
        "original_width": width,
        "original_height": height,
        "image_rotation": 0,
        "score": round(float(cut.scores[0]), 4),
        "readonly": False,
        "value": value,
    }

"""`/v1/images` and `/v1/segment`: encode once, ask many times."""

from __future__ import annotations

import io
import time
from collections.abc import Callable
from typing import Annotated, Any

from fastapi import APIRouter, Body, Depends, Request
from PIL import Image
from pydantic import BaseModel
from starlette.responses import JSONResponse, Response

from ..arrange import without_small_regions
from ..errors import InvalidPrompt
from ..segments import Segments
from .lanes import Lane
from .service import Kept, Service
from .streams import streamed
from .uploads import checked, picture_in
from .wire import (
    CleanAnswer,
    CleanRequest,
    EverythingRequest,
    ImageAnswer,
    ImageRequest,
    OneShotRequest,
    ProblemAnswer,
    SegmentAnswer,
    SegmentRequest,
    masks_in,
    preview_out,
    segments_out,
)

PROBLEMS: dict[int | str, dict[str, Any]] = {
    status: {"model": ProblemAnswer, "content": {"application/problem+json": {}}}
    for status in (401, 404, 410, 413, 415, 422, 429, 504)
}

router = APIRouter(prefix="/v1", responses=PROBLEMS)


def service_of(request: Request) -> Service:
    return request.app.state.service


Served = Annotated[Service, Depends(service_of)]


def json_body(kind: type[BaseModel]) -> dict[str, Any]:
    """OpenAPI's words for a body that is read here instead of by FastAPI: room is made for it first."""
    schema = kind.model_json_schema(ref_template="#/components/schemas/{model}")
    return {"requestBody": {"required": True, "content": {"application/json": {"schema": schema}}}}


def body_of(kind: type[BaseModel]) -> dict[str, Any]:
    """The same for a body that is a file, a form with a file, or JSON."""
    file = {"type": "string", "format": "binary"}
    form = {"type": "object", "required": ["file"], "properties": {"file": file, "prompt": {"type": "string"}}}
    words = json_body(kind)
    words["requestBody"]["content"] |= {"application/octet-stream": {"schema": file}, "multipart/form-data": {"schema": form}}
    return words


@router.post("/images", status_code=201, responses={201: {"model": ImageAnswer}}, openapi_extra=body_of(ImageRequest))
async def upload(request: Request, service: Served, model: str | None = None) -> Response:
    """Uploads a picture and encodes it; the handle in the answer is what prompts are sent to.

    The body is the file itself, a form with one file, or JSON with `image` (base64) or `url`.
    """
    with service.receiving(request) as share:
        data, said = await picture_in(request, service.config)
        found = await service.upload(request, share, data, model or checked(ImageRequest, said).model)
    photo = found.kept.photo
    height, width = photo.size
    answer = {"id": found.handle, "width": width, "height": height, "model": photo.model, "cached": found.cached}
    seconds = {name: round(value, 4) for name, value in found.seconds.items()}
    return JSONResponse(answer | {"seconds": seconds}, 200 if found.cached else 201)


@router.get("/images/{id}/picture", responses={200: {"content": {"image/png": {}}}})
async def picture(request: Request, service: Served, id: str) -> Response:
    """The picture as it is segmented, upright: for kinds of files that a browser does not show."""
    photo = service.kept(request.state.owner, id).photo

    def work() -> bytes:
        buffer = io.BytesIO()
        Image.fromarray(photo.image).save(buffer, format="PNG", compress_level=1)
        return buffer.getvalue()

    return Response(await service.ask(request, service.decodes, work), media_type="image/png")


@router.delete("/images/{id}", status_code=204)
async def forget(request: Request, service: Served, id: str) -> Response:
    """Forgets a picture and what was answered about it."""
    service.handles.model(request.state.owner, id)
    service.forget(id)
    return Response(status_code=204)


@router.post("/images/{id}/segment", responses={200: {"model": SegmentAnswer}})
async def segment(request: Request, service: Served, id: str, asked: SegmentRequest) -> Response:
    """Masks for what is pointed at: three candidates for a single click, one otherwise."""
    kept = service.kept(request.state.owner, id)
    return JSONResponse(await service.ask(request, lane_of(service, asked), answering(service, id, kept, asked)))


@router.post("/images/{id}/clean", responses={200: {"model": CleanAnswer}})
async def clean(request: Request, service: Served, id: str, asked: CleanRequest) -> Response:
    """A mask with small holes filled and small islands dropped; its largest island stays."""
    photo = service.kept(request.state.owner, id).photo

    def work() -> dict[str, Any]:
        masks, (height, width) = masks_in(asked.mask, photo.size), photo.size
        assert masks is not None, "a request has one"
        cut = Segments.of_masks(photo.image, masks)
        cut = without_small_regions(cut, asked.min_region or height * width // 1000)
        return {"rle": cut.rle()[0], "area": int(cut.areas[0]), "box_xyxy": cut.boxes_xyxy[0].tolist()}

    return JSONResponse(await service.ask(request, service.clicks, work))


@router.post("/segment", responses={200: {"model": SegmentAnswer}}, openapi_extra=body_of(OneShotRequest))
async def segment_at_once(request: Request, service: Served) -> Response:
    """A picture and a prompt in one request: a form with the file and JSON in the field `prompt`, or JSON with `image`."""
    with service.receiving(request) as share:
        data, said = await picture_in(request, service.config)
        asked = checked(OneShotRequest, said)
        found = await service.upload(request, share, data, asked.model)
    work = answering(service, found.handle, found.kept, asked)
    return JSONResponse(await service.ask(request, lane_of(service, asked), work))


def lane_of(service: Service, asked: SegmentRequest) -> Lane[Callable[[], Any], Any]:
    """Who answers a prompt: zooming in encodes, which others' clicks must not wait for."""
    return service.long if asked.zoom else service.clicks


def answering(service: Service, handle: str, kept: Kept, asked: SegmentRequest) -> Callable[[], dict[str, Any]]:
    """The work of one prompt."""
    photo = kept.photo

    def work() -> dict[str, Any]:
        started = time.perf_counter()
        height, width = photo.size
        about = {"id": handle, "width": width, "height": height, "model": photo.model}
        if "preview" in asked.output:
            if len(asked.output) > 1 or asked.mask is not None or asked.previous is not None or asked.zoom:
                raise InvalidPrompt("a preview stands alone: points, labels and a box, and no other output")
            return {**about, **preview_out(photo, asked), "seconds": {"segment": round(time.perf_counter() - started, 4)}}
        mask = masks_in(asked.mask, photo.size)
        if asked.previous is not None:
            if mask is not None:
                raise InvalidPrompt("give previous (an answer to refine) or mask (a rough mask), not both")
            mask = service.recall(handle, asked.previous)
        cut = photo.segment(asked.points, asked.labels, asked.boxes, mask, multimask=asked.multimask)
        if asked.zoom:
            cut = photo.zoom_in(cut)
        best = cut.best
        result = service.remember(handle, kept, cut)
        shown = cut if asked.candidates == "all" else best
        masks = segments_out(shown, asked.output)
        seconds = {"segment": round(time.perf_counter() - started, 4)}
        return {**about, "result": result, "best": shown.best_rows.tolist(), "masks": masks, "seconds": seconds}

    return work


@router.post("/images/{id}/everything")
async def everything(
    request: Request, service: Served, id: str, asked: Annotated[EverythingRequest | None, Body()] = None
) -> Response:
    """Everything in the picture, without a prompt. The answer is a stream of JSON lines: `progress` now and then, then
    `result` with the masks, best first; or `error` with a problem."""
    photo = service.kept(request.state.owner, id).photo
    config = (asked or EverythingRequest()).config(photo.model)

    def work(say: Callable[[dict[str, Any]], None]) -> None:
        cut = photo.segment_everything(config, lambda done, total: say({"type": "progress", "done": done, "total": total}))
        points = [prompt.points[0].tolist() for prompt in cut.prompts]
        say({"type": "result", "masks": segments_out(cut, ["rle"]), "points": points})

    late = "the search took too long; ask for fewer points"
    begun = {"type": "progress", "done": 0, "total": None}
    return streamed(request, service, service.long, work, service.limits.search, begun, late)

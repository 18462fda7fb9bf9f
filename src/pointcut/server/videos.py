"""`/v1/videos`: a film, prompts on its frames, and a stream of masks."""

from __future__ import annotations

import asyncio
import re
import secrets
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar

from fastapi import APIRouter, Body, Depends, Request
from PIL import Image
from pydantic import ConfigDict, Field
from starlette.responses import FileResponse, JSONResponse, Response, StreamingResponse

from ..draw import jpeg
from ..errors import InputError, PointcutError
from .films import RENDERED, Film, without_path
from .pictures import PROBLEMS, Served
from .problems import Problem, problem_of
from .service import Service
from .streams import line_of, problem_line
from .wire import Box, Labels, Points, Wire, WireRle, masks_in, segments_out

router = APIRouter(prefix="/v1/videos", responses=PROBLEMS)

Answer = TypeVar("Answer")
FrameNumber = Annotated[int, Field(ge=0, le=1_000_000)]
ObjectId = Annotated[int, Field(ge=0, le=1_000_000)]
OBJECTS = 32
"""At most in one film."""


class FilmPrompt(Wire):
    """Where an object is on a frame. All clicks for that frame: they replace what was said of it before."""

    model_config = ConfigDict(
        extra="forbid", json_schema_extra={"examples": [{"frame": 0, "object": 1, "points": [[140, 100]]}]}
    )

    frame: FrameNumber
    object: ObjectId
    points: Points | None = None
    labels: Labels | None = None
    box: Box | None = None
    mask: WireRle | None = None
    """The object itself, of the frame's size; alone."""


class TrackRequest(Wire):
    """Which frames: from `start` (by default the first that was prompted) to before `end`, or backwards down to it."""

    start: FrameNumber | None = None
    end: FrameNumber | None = None
    reverse: bool = False


class RenderRequest(Wire):
    """What to take away."""

    format: Literal["overlay.mp4", "cutout.webm", "coco", "json"] = "overlay.mp4"


def film_of(request: Request, service: Served, id: str) -> Film:
    return service.open_films.get(request.state.owner, id)


Opened = Annotated[Film, Depends(film_of)]


async def with_film(request: Request, service: Service, film: Film, task: Callable[[], Answer]) -> Answer:
    """Work on a film, in its lane; errors do not tell where the film lies."""
    try:
        return await service.ask(request, service.films, task)
    except PointcutError as error:
        raise without_path(error, film) from None


@router.post(
    "",
    status_code=201,
    openapi_extra={
        "requestBody": {"content": {"application/octet-stream": {"schema": {"type": "string", "format": "binary"}}}}
    },
)
async def upload(request: Request, service: Served, model: str | None = None) -> Response:
    """Opens a film (mp4, mov, mkv, webm, avi, gif); the body is the file itself."""
    chosen = service.model(model)
    owner, key = request.state.owner, sticky_key(request)
    with service.open_films.arriving():
        folder = service.open_films.shelter.folder()
        try:
            path = Path(folder.name) / "film"
            with path.open("wb") as file:
                async for part in request.stream():
                    file.write(part)
            film = await service.ask(request, service.films, lambda: service.open_films.open(owner, key, folder, path, chosen))
        except BaseException:
            folder.cleanup()
            raise
    return JSONResponse(await with_film(request, service, film, lambda: about(film)), 201)


def sticky_key(request: Request) -> str:
    """32 hexadecimal digits by which a proxy chose this server: of X-Image-Hash or X-Request-ID; or new ones."""
    for name in ("x-image-hash", "x-request-id"):
        if re.fullmatch("[0-9a-f]{32}", request.headers.get(name, "")):
            return request.headers[name]
    return secrets.token_hex(16)


def about(film: Film) -> dict[str, Any]:
    height, width = film.source[0].shape[:2]
    rate = film.source.rate
    return {"id": film.id, "width": width, "height": height, "frames": film.frames, "rate": rate, "model": film.model}


@router.get("/{id}")
async def look(request: Request, service: Served, film: Opened) -> Response:
    """What is known of a film, and which frames have masks."""
    known = await with_film(request, service, film, lambda: about(film) | {"objects": film.tracker.objects})
    return JSONResponse(known | {"tracked": sorted(film.rows)})


@router.delete("/{id}", status_code=204)
async def close(service: Served, film: Opened) -> Response:
    """Closes a film and deletes its file."""
    service.open_films.close(film)
    return Response(status_code=204)


@router.get("/{id}/frames/{number}", responses={200: {"content": {"image/jpeg": {}}}})
async def frame(request: Request, service: Served, film: Opened, number: Annotated[int, Field(ge=0)]) -> Response:
    """One frame as JPEG."""

    def work() -> bytes:
        try:
            pixels = film.source[number]
        except IndexError:
            raise Problem(404, "no_such_frame", f"the film has {film.frames} frames") from None
        return jpeg(Image.fromarray(pixels), quality=90)

    picture = await with_film(request, service, film, work)
    return Response(picture, media_type="image/jpeg", headers={"Cache-Control": "private, max-age=3600"})


@router.post("/{id}/prompt")
async def prompt(request: Request, service: Served, film: Opened, asked: FilmPrompt) -> Response:
    """Says where an object is on a frame; gives its mask there."""

    def work() -> dict[str, Any]:
        known = film.tracker.objects
        if asked.object not in known and len(known) >= OBJECTS:
            raise Problem(422, "too_many_objects", f"a film may have {OBJECTS} objects")
        height, width = film.source[0].shape[:2]
        masks = masks_in(asked.mask, (height, width))
        cut = film.tracker.prompt(
            asked.frame, asked.object, asked.points, asked.labels, asked.box, None if masks is None else masks[0]
        )
        return {"frame": asked.frame, "masks": segments_out(cut, ["rle"])}

    return JSONResponse(await with_film(request, service, film, work))


@router.delete("/{id}/objects/{number}", status_code=204)
async def remove(request: Request, service: Served, film: Opened, number: ObjectId) -> Response:
    """Forgets an object."""
    await with_film(request, service, film, lambda: film.forget(number))
    return Response(status_code=204)


@router.post("/{id}/reset", status_code=204)
async def reset(request: Request, service: Served, film: Opened) -> Response:
    """Forgets all objects."""
    await with_film(request, service, film, lambda: film.forget(None))
    return Response(status_code=204)


@router.post("/{id}/track")
async def track(
    request: Request, service: Served, film: Opened, asked: Annotated[TrackRequest | None, Body()] = None
) -> Response:
    """Follows all objects. The answer is a stream of JSON lines: a `frame` each, then `done`; or `error` with a problem."""
    asked = asked or TrackRequest()
    taken = Problem(409, "tracking", "this film is being tracked already; end that request first")
    if film.tracking:
        raise taken
    if not film.tracker.objects:
        raise InputError("nothing to follow yet: prompt first (POST /v1/videos/ID/prompt)")
    frames = film.tracker.run(asked.start, asked.end, reverse=asked.reverse)

    def step() -> dict[str, Any] | None:
        if len(film.rows) >= service.limits.frames:
            raise Problem(413, "film_too_long", f"{service.limits.frames} frames are tracked at most")
        tracked = next(frames, None)
        return None if tracked is None else film.found(tracked)

    async def stream() -> AsyncIterator[str]:
        if film.tracking:  # another request has begun since this one was looked at
            yield line_of(problem_line(request, taken))
            return
        count, film.tracking = 0, True
        try:
            while True:
                job = service.submit(service.films, step, service.limits.compute)
                row = await asyncio.wait_for(asyncio.wrap_future(job.future), service.limits.compute)
                if row is None:
                    break
                count += 1
                yield line_of({"type": "frame", **row})
            yield line_of({"type": "done", "frames": count, "broken": film.source.broken})
        except Exception as error:
            told = without_path(error, film) if isinstance(error, PointcutError) else error
            late = Problem(504, "deadline", "a frame took too long")
            yield line_of(problem_line(request, late if isinstance(error, TimeoutError) else problem_of(told)))
        finally:
            film.tracking = False

    return StreamingResponse(stream(), media_type="application/x-ndjson")


@router.post("/{id}/render")
async def take_away(request: Request, service: Served, film: Opened, asked: RenderRequest) -> Response:
    """What was found so far as a file."""
    path = await with_film(request, service, film, lambda: film.rendered(asked.format))
    return FileResponse(path, media_type=RENDERED[asked.format], filename=path.name)

"""`/v1/index`: segments of a library (`pointcut index`), found by what is pointed at or by words; nothing is changed."""

from __future__ import annotations

from pathlib import PurePath
from typing import Annotated, Any

from fastapi import APIRouter, Path, Request
from pydantic import ConfigDict, Field
from starlette.responses import JSONResponse, Response

from ..index import Hit, Where
from ..likeness import vector_of
from .catalogue import Catalogue
from .pictures import PROBLEMS, Served
from .problems import Problem
from .service import Service
from .wire import Wire, WireRle, masks_in

router = APIRouter(prefix="/v1/index", responses=PROBLEMS)

EntryId = Annotated[str, Field(pattern="^[0-9a-f]{32}$")]
Words = Annotated[str, Field(min_length=1, max_length=500)]
Area = Annotated[int, Field(ge=0, le=1 << 40)]


class SearchRequest(Wire):
    """What is looked for: `entry` (like a segment of the index), `image` (like all of an uploaded picture, or with `mask` like
    a part of it), `text` (what is meant, in an index that knows words), or nothing but conditions."""

    model_config = ConfigDict(
        extra="forbid", json_schema_extra={"examples": [{"words": "cup", "count": 5}, {"entry": "0" * 32, "skip": 12}]}
    )

    entry: EntryId | None = None
    image: Annotated[str, Field(max_length=100)] | None = None
    """The handle of an uploaded picture."""
    mask: WireRle | None = None
    text: Words | None = None
    words: Words | None = None
    """What stands in a label or description."""
    label: Words | None = None
    min_area: Area | None = None
    max_area: Area | None = None
    since: Annotated[str, Field(max_length=40)] | None = None
    until: Annotated[str, Field(max_length=40)] | None = None
    count: Annotated[int, Field(ge=1, le=100)] = 12
    skip: Annotated[int, Field(ge=0, le=10_000)] = 0

    def where(self) -> Where:
        conditions = ("min_area", "max_area", "label", "words", "since", "until")
        return Where(**{name: getattr(self, name) for name in conditions})


def catalogue_of(service: Service) -> Catalogue:
    """Raises Problem 404."""
    if service.catalogue is None:
        raise Problem(404, "no_index", "this server has no index; start it with --index DIR")
    return service.catalogue


@router.get("")
async def about(request: Request, service: Served) -> Response:
    """How much the index holds, and whose vectors."""
    return JSONResponse(await service.ask(request, service.searches, catalogue_of(service).about))


@router.post("/search")
async def search(request: Request, service: Served, asked: SearchRequest) -> Response:
    """The segments most like what is asked for, best first."""
    catalogue = catalogue_of(service)
    if [asked.entry, asked.image, asked.text].count(None) < 2 or (asked.mask is not None and asked.image is None):
        raise Problem(422, "invalid_request", "give one of entry, image and text; a mask belongs to an image")
    photo = service.kept(request.state.owner, asked.image).photo if asked.image is not None else None
    if photo is not None and photo.model != catalogue.model.name:
        name = catalogue.model.name
        raise Problem(422, "model_unsuitable", f"the index is asked with {name}: upload the picture with ?model={name}")

    def work() -> list[Hit]:
        if asked.entry is not None:
            vector = catalogue.store.vector_of(asked.entry)
        elif asked.text is not None:
            vector = catalogue.likeness.words(asked.text)
        elif photo is not None:
            vector = vector_of(catalogue.likeness, photo, masks_in(asked.mask, photo.size))
        else:
            return catalogue.store.meeting(asked.where(), asked.count, asked.skip)
        return catalogue.store.search(vector, asked.count, asked.where(), asked.skip)

    hits = await service.ask(request, service.searches, work)
    return JSONResponse({"hits": [told(hit) for hit in hits]})


@router.get("/{id}/thumbnail", responses={200: {"content": {"image/jpeg": {}}}})
async def thumbnail(request: Request, service: Served, id: Annotated[str, Path(pattern="^[0-9a-f]{32}$")]) -> Response:
    """A small picture of a segment, with what is around it dimmed."""
    catalogue = catalogue_of(service)
    found = await service.ask(request, service.searches, lambda: catalogue.store.entry(id))
    if found is None:
        raise Problem(404, "no_such_entry", "the index holds no such segment")
    return Response(found.thumbnail, media_type="image/jpeg", headers={"Cache-Control": "private, max-age=3600"})


def told(hit: Hit) -> dict[str, Any]:
    """A segment that was found; of its picture's place on the server only the name."""
    entry = hit.entry
    names = ("id", "label", "description", "area", "score", "width", "height", "added")
    about = {name: getattr(entry, name) for name in names}
    box = {"image": PurePath(entry.image).name, "box_xyxy": [entry.x0, entry.y0, entry.x1, entry.y1]}
    mask = {"rle": {"size": [entry.height, entry.width], "counts": entry.counts}}
    return {"similarity": round(hit.similarity, 4)} | about | box | mask | {"thumbnail": f"/v1/index/{entry.id}/thumbnail"}

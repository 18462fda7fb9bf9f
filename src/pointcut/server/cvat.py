"""`/cvat/interactor`: what CVAT's serverless interactors are asked, and answer.

Protocol: https://docs.cvat.ai/docs/administration/advanced/ (serverless functions) and the functions in CVAT's repository. CVAT
calls a Nuclio function; a function of a few lines hands its event on to here (docs/server.md).
"""

from __future__ import annotations

from typing import Annotated, Any

import numpy as np
from fastapi import APIRouter, Request
from pydantic import BaseModel, ConfigDict, Field
from starlette.responses import JSONResponse, Response

from ..errors import InvalidPrompt
from .pictures import PROBLEMS, Served, json_body
from .uploads import checked, from_base64, parsed
from .wire import Point

router = APIRouter(prefix="/cvat", responses=PROBLEMS)


class InteractorRequest(BaseModel):
    """A picture and what was clicked on it, in pixels. CVAT may send more than is used here."""

    model_config = ConfigDict(extra="ignore")

    image: str
    """The file in base64."""
    pos_points: Annotated[list[Point], Field(max_length=256)] = []
    neg_points: Annotated[list[Point], Field(max_length=256)] = []
    obj_bbox: Annotated[list[Point], Field(max_length=2)] | None = None
    """Two corners."""


@router.post("/interactor", openapi_extra=json_body(InteractorRequest))
async def interactor(request: Request, service: Served) -> Response:
    """The best mask, as rows of 0 and 1 of the whole picture."""
    with service.receiving(request) as share:
        asked = checked(InteractorRequest, parsed(await request.body()))
        found = await service.upload(request, share, from_base64(asked.image), None)

    def work() -> list[list[int]]:
        points: list[Any] = [*asked.pos_points, *asked.neg_points]
        labels = [1] * len(asked.pos_points) + [0] * len(asked.neg_points)
        box = None
        if asked.obj_bbox:
            if len(asked.obj_bbox) != 2:
                raise InvalidPrompt("obj_bbox is two corners")
            corners = np.array(asked.obj_bbox)
            box = (*corners.min(axis=0), *corners.max(axis=0))
        cut = found.kept.photo.segment(points or None, labels or None, box).best
        return cut.mask(0).astype(np.uint8).tolist()

    return JSONResponse({"mask": await service.ask(request, service.clicks, work)})

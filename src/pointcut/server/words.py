"""`/v1/images/{id}/describe`: what a vision-language model says of a part of a picture. The operator chooses the endpoint."""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import replace
from typing import Annotated, Any

from fastapi import APIRouter, Request
from pydantic import Field
from starlette.responses import Response

from ..describe import ASK, Describer
from ..draw import Background
from ..errors import PointcutError
from ..segments import Segments
from .pictures import PROBLEMS, Served
from .problems import Problem
from .streams import streamed
from .wire import Wire, WireRle, masks_in

router = APIRouter(prefix="/v1/images", responses=PROBLEMS)
log = logging.getLogger(__name__)


class DescribeRequest(Wire):
    """A part of a picture, and what is asked about it."""

    mask: WireRle
    ask: Annotated[str, Field(min_length=1, max_length=1000)] = ASK
    background: Background = "dim"


@router.post("/{id}/describe")
async def describe(request: Request, service: Served, id: str, asked: DescribeRequest) -> Response:
    """The answer is a stream of JSON lines: `piece` with `text` as it is said, then `result` with `description` and `model`; or
    `error` with a problem. What comes is text of a model about a picture of anybody's: show it as text."""
    photo = service.kept(request.state.owner, id).photo
    describer = service.describer
    if describer is None:
        raise Problem(404, "no_describer", "this server asks no vision-language model; start it with --vlm NAME")
    look = replace(describer.look, ask=asked.ask, background=asked.background)
    speaker: Describer = describer

    def work(say: Callable[[dict[str, Any]], None]) -> None:
        masks = masks_in(asked.mask, photo.size)
        if masks is None or not masks.any():
            raise Problem(422, "invalid_prompt", "the mask is empty: there is nothing to describe")
        picture = next(look.pictures(Segments.of_masks(photo.image, masks)))
        said = ""
        try:
            for piece in speaker.stream(picture, look):
                say({"type": "piece", "text": piece})
                said += piece
        except PointcutError as error:  # its words name the endpoint, which concerns the operator alone
            log.warning("no description: %s", error)
            raise Problem(502, "no_description", "the model that describes did not answer; try again in a moment") from None
        say({"type": "result", "description": said, "model": speaker.model})

    return streamed(request, service, service.questions, work, service.limits.describe)

"""For operators and programs: is it alive, is it ready, how is it doing, which models does it have."""

from __future__ import annotations

from typing import Any

from fastapi import APIRouter
from starlette.responses import JSONResponse, Response

from ..segment.segmenter import Segmenter
from ..weights.specs import find
from .pictures import Served
from .problems import Problem

router = APIRouter()


@router.get("/livez")
async def livez() -> Response:
    """The process lives. Needs no token."""
    return JSONResponse({"status": "ok"})


@router.get("/readyz")
@router.get("/health", include_in_schema=False)
async def readyz(service: Served) -> Response:
    """The server takes work: models are loaded, and it is not stopping."""
    if service.draining:
        raise Problem(503, "draining", "the server is stopping")
    return JSONResponse({"status": "ok", "models": list(service.models)})


@router.get("/metrics")
async def metrics(service: Served) -> Response:
    """Figures for Prometheus."""
    return Response(service.figures(), media_type="text/plain; version=0.0.4; charset=utf-8")


@router.get("/v1/models")
async def models(service: Served) -> Response:
    """What was loaded when the server started; requests choose among these by `model`. `index` tells which of them an index is
    asked with, if there is one, and whether it knows words; `describe` whether parts of pictures can be described."""
    catalogue = service.catalogue
    return JSONResponse(
        {
            "default": service.default,
            "models": [model_out(model) for model in service.models.values()],
            "index": {"model": catalogue.model.name, "text": catalogue.knows_words} if catalogue else None,
            "describe": service.describer is not None,
        }
    )


def model_out(model: Segmenter) -> dict[str, Any]:
    spec = find(model.name)
    return {
        "name": model.name,
        "family": spec.family if spec else None,
        "licence": spec.licence if spec else None,
        "parameters": model.net.parameter_count,
        "input_size": model.net.input_size,
        "device": str(model.device),
        "encoding": model.arithmetic,
        "video": getattr(model.net, "memory", None) is not None,
        "built_in": model.name == "nano",
    }

"""POST /v1/classify and /v1/models/{name}/classify."""

from __future__ import annotations

import asyncio
from time import perf_counter
from typing import Annotated, Any, Literal

from fastapi import APIRouter, Query, Request
from pydantic import BaseModel, BeforeValidator, ConfigDict, Field

from service.api.disconnect import run_while_connected
from service.api.problems import Problem
from service.api.state import server_state
from service.api.upload import receive_upload
from service.errors import DeadlineExceededError
from service.media.types import MediaInfo, View
from service.pipeline import Classification, ClassifyOptions


class ClassifyQuery(BaseModel):
    """Query parameters of a classification; whatever is not given follows the model's own test protocol."""

    model_config = ConfigDict(extra="forbid")

    top_k: int = Field(5, ge=1, description="number of classes to name")
    clips: int | None = Field(None, ge=1, description="temporal views")
    crops: Annotated[Literal[1, 3], BeforeValidator(int)] | None = Field(None, description="spatial views")
    start: float | None = Field(None, ge=0, allow_inf_nan=False, description="look from here on, seconds")
    end: float | None = Field(None, gt=0, allow_inf_nan=False, description="look up to here, seconds")


class PredictionBody(BaseModel):
    """One class."""

    index: int
    label: str
    score: float = Field(description="softmax, or sigmoid for multi-label models")


class TimingBody(BaseModel):
    """Where the request's time went, seconds."""

    receive: float
    decode: float
    queue: float
    inference: float
    total: float


class ClassifyBody(BaseModel):
    """Answer to a classification."""

    model: str
    version: str
    predictions: list[PredictionBody]
    media: MediaInfo
    views: list[View]
    timing_seconds: TimingBody
    batch_size: int


_BINARY = {"type": "string", "format": "binary"}
_REQUEST_BODY: dict[str, Any] = {
    "requestBody": {
        "required": True,
        "content": {
            "multipart/form-data": {
                "schema": {"type": "object", "required": ["file"], "properties": {"file": _BINARY}}
            },
            "application/octet-stream": {"schema": _BINARY},
            "video/*": {"schema": _BINARY},
            "image/*": {"schema": _BINARY},
        },
    }
}
_PROBLEMS: dict[int | str, dict[str, Any]] = {
    status: {"model": Problem, "description": text}
    for status, text in (
        (400, "bad parameter or form"),
        (404, "unknown model"),
        (413, "body too large"),
        (415, "not a format that is accepted"),
        (422, "undecodable, or over a decode limit"),
        (429, "queue full; see Retry-After"),
        (500, "a fault of the server"),
        (503, "starting or draining; see Retry-After"),
        (504, "deadline exceeded"),
    )
}

router = APIRouter(prefix="/v1", tags=["media"], responses=_PROBLEMS)


@router.post("/classify", openapi_extra=_REQUEST_BODY)
async def classify_default(request: Request, query: Annotated[ClassifyQuery, Query()]) -> ClassifyBody:
    """Name the classes of a video or image with the default model."""
    return await _classify(request, None, query)


@router.post("/models/{name}/classify", openapi_extra=_REQUEST_BODY)
async def classify(request: Request, name: str, query: Annotated[ClassifyQuery, Query()]) -> ClassifyBody:
    """Name the classes of a video or image with model `name`."""
    return await _classify(request, name, query)


async def _classify(request: Request, name: str | None, query: ClassifyQuery) -> ClassifyBody:
    began = perf_counter()
    state = server_state(request)
    settings = state.settings
    try:
        async with asyncio.timeout(settings.request_timeout):
            with state.accept():
                model = state.repository.get(name)
                async with receive_upload(request, settings.max_body_bytes, state.upload_memory) as upload:
                    options = ClassifyOptions(**query.model_dump())
                    result = await run_while_connected(request, state.pipeline.classify(model, upload, options, began))
    except TimeoutError as error:
        raise DeadlineExceededError(
            f"the request was not done within {settings.request_timeout:g} s: the upload comes too slowly, "
            "the server is overloaded, or the request asks for too many views"
        ) from error
    return _body(model.manifest.name, model.manifest.version, result)


def _body(name: str, version: str, result: Classification) -> ClassifyBody:
    timing = result.timing
    return ClassifyBody(
        model=name,
        version=version,
        predictions=[PredictionBody(index=p.index, label=p.label, score=p.score) for p in result.predictions],
        media=result.decoded.media,
        views=list(result.decoded.views),
        timing_seconds=TimingBody(
            receive=timing.receive,
            decode=timing.decode,
            queue=timing.queue,
            inference=timing.inference,
            total=timing.total,
        ),
        batch_size=result.batch_size,
    )

"""POST /v1/classify and /v1/models/{name}/classify."""

from __future__ import annotations

from typing import Annotated, Literal

from fastapi import APIRouter, Query, Request
from pydantic import BaseModel, BeforeValidator, Field

from service.api.media import PROBLEMS, REQUEST_BODY, PartQuery, TimingBody, with_upload
from service.api.state import ServerState
from service.manifest import ClassifierManifest
from service.media.types import MediaInfo, View
from service.pipeline import Classification, ClassifyOptions
from service.repository import ServedModel


class ClassifyQuery(PartQuery):
    """Query parameters of a classification; whatever is not given follows the model's own test protocol."""

    top_k: int = Field(5, ge=1, description="number of classes to name")
    clips: int | None = Field(None, ge=1, description="temporal views")
    crops: Annotated[Literal[1, 3], BeforeValidator(int)] | None = Field(None, description="spatial views")


class PredictionBody(BaseModel):
    """One class."""

    index: int
    label: str
    score: float = Field(description="softmax, or sigmoid for multi-label models")


class ClassifyBody(BaseModel):
    """Answer to a classification."""

    model: str
    version: str
    predictions: list[PredictionBody]
    media: MediaInfo
    views: list[View]
    timing_seconds: TimingBody
    batch_size: int


router = APIRouter(prefix="/v1", tags=["media"], responses=PROBLEMS)


@router.post("/classify", openapi_extra=REQUEST_BODY)
async def classify_default(request: Request, query: Annotated[ClassifyQuery, Query()]) -> ClassifyBody:
    """Name the classes of a video or image with the default model."""
    return await _classify(request, None, query)


@router.post("/models/{name}/classify", openapi_extra=REQUEST_BODY)
async def classify(request: Request, name: str, query: Annotated[ClassifyQuery, Query()]) -> ClassifyBody:
    """Name the classes of a video or image with model `name`."""
    return await _classify(request, name, query)


async def _classify(request: Request, name: str | None, query: ClassifyQuery) -> ClassifyBody:
    options = ClassifyOptions(**query.model_dump())

    async def work(
        state: ServerState, model: ServedModel[ClassifierManifest], upload: int, began: float
    ) -> Classification:
        return await state.pipeline.classify(model, upload, options, began)

    model, result = await with_upload(request, name, ClassifierManifest, work)
    return ClassifyBody(
        model=model.manifest.name,
        version=model.manifest.version,
        predictions=[PredictionBody(index=p.index, label=p.label, score=p.score) for p in result.predictions],
        media=result.decoded.media,
        views=list(result.decoded.views),
        timing_seconds=TimingBody.of(result.timing),
        batch_size=result.batch_size,
    )

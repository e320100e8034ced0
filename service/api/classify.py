"""POST /v1/classify and /v1/models/{name}[/versions/{version}]/classify."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from fastapi import APIRouter, Query, Request, Response
from pydantic import BaseModel, BeforeValidator, Field

from service.api.delivery import DeliveredResponse
from service.api.media import PROBLEMS, REQUEST_BODY, PartQuery, PriorityQuery, ShowQuery, TimingBody, accepted_upload
from service.api.state import server_state
from service.job import Job
from service.manifest import ClassifierManifest
from service.media.types import MediaInfo, View
from service.outputs.contact_sheet import SheetRow, contact_sheet
from service.pipeline import ClassifyOptions, Pipeline


def _number(value: Any) -> Any:
    """Return what is a number in a query as one; the rest is refused with the numbers that there are."""
    return int(value) if isinstance(value, str) and value.isdecimal() else value


class ViewsQuery(PartQuery):
    """Parameters that choose the views of a video; whatever is not given follows the model's own test protocol."""

    clips: int | None = Field(None, ge=1, description="temporal views")
    crops: Annotated[Literal[1, 3], BeforeValidator(_number)] | None = Field(None, description="spatial views")


class ClassifyQuery(ViewsQuery, PriorityQuery, ShowQuery):
    """Query parameters of a classification."""

    top_k: int = Field(5, ge=1, description="number of classes to name")


class PredictionBody(BaseModel):
    """One class."""

    index: int
    label: str
    score: float = Field(description="softmax, or sigmoid for multi-label models")


class ClassificationBody(BaseModel):
    """Answer to a classification."""

    model: str
    version: str
    predictions: list[PredictionBody]
    media: MediaInfo
    views: list[View]
    timing_seconds: TimingBody
    batch_size: int


_SHEET: dict[str, Any] = {
    "description": "the answer, or with show=frames a contact sheet",
    "model": ClassificationBody,
    "content": {"image/png": {"schema": {"type": "string", "format": "binary"}}},
}

router = APIRouter(prefix="/v1", tags=["media"], responses={**PROBLEMS, 200: _SHEET})


@router.post("/classify", openapi_extra=REQUEST_BODY, response_class=Response)
async def classify_default(request: Request, query: Annotated[ClassifyQuery, Query()]) -> Response:
    """Name the classes of a video or image with the default model."""
    return await _classify(request, None, None, query)


@router.post("/models/{name}/classify", openapi_extra=REQUEST_BODY, response_class=Response)
async def classify(request: Request, name: str, query: Annotated[ClassifyQuery, Query()]) -> Response:
    """Name the classes of a video or image with the default version of model `name`."""
    return await _classify(request, name, None, query)


@router.post("/models/{name}/versions/{version}/classify", openapi_extra=REQUEST_BODY, response_class=Response)
async def classify_with_version(
    request: Request, name: str, version: str, query: Annotated[ClassifyQuery, Query()]
) -> Response:
    """Name the classes of a video or image with version `version` of model `name`."""
    return await _classify(request, name, version, query)


async def _classify(request: Request, name: str | None, version: str | None, query: ClassifyQuery) -> Response:
    options = ClassifyOptions(**query.model_dump(exclude={"show"}))
    work = _answer if query.show == "answer" else _show_frames
    async with accepted_upload(request, name, version, ClassifierManifest, query.priority) as (job, upload):
        return await work(server_state(request).pipeline, job, upload, options)


async def _answer(pipeline: Pipeline, job: Job[ClassifierManifest], upload: int, options: ClassifyOptions) -> Response:
    result = await pipeline.classify(job, upload, options)
    answer = ClassificationBody(
        model=job.model.manifest.name,
        version=job.model.manifest.version,
        predictions=[PredictionBody(index=p.index, label=p.label, score=p.score) for p in result.predictions],
        media=result.decoded.media,
        views=list(result.decoded.views),
        timing_seconds=TimingBody.of(result.timing),
        batch_size=result.batch_size,
    )
    return Response(answer.model_dump_json(), media_type="application/json")


async def _show_frames(
    pipeline: Pipeline, job: Job[ClassifierManifest], upload: int, options: ClassifyOptions
) -> Response:
    decoded = await pipeline.input_views(job, upload, options)
    result, manifest = decoded.result, job.model.manifest
    media = result.media
    title = f"{manifest.full_name}: {media.codec} {media.width}x{media.height}, {media.frames} frames"
    rows = [
        SheetRow(
            f"clip {view.clip}, {view.crop}",
            [f"#{frame}  {time:.3f} s" for frame, time in zip(view.frames, times, strict=True)],
        )
        for view, times in zip(result.views, result.times, strict=True)
    ]
    # Drawing takes as long as the pixels are many.
    sheet = await pipeline.rendering.run(job.memory, contact_sheet, title, rows, decoded.arrays[0])
    job.memory.keep(len(sheet))
    return DeliveredResponse(sheet, media_type="image/png")

"""POST /v1/segment and /v1/models/{name}[/versions/{version}]/segment."""

from __future__ import annotations

from fractions import Fraction
from math import prod
from typing import Annotated, Any, Literal

import numpy as np
from fastapi import APIRouter, Query, Request, Response
from numpy.typing import NDArray
from pydantic import BaseModel, Field

from service.api.delivery import DeliveredResponse
from service.api.media import PROBLEMS, REQUEST_BODY, PartQuery, PriorityQuery, ShowQuery, TimingBody, accepted_upload
from service.api.state import server_state
from service.job import Job
from service.manifest import Artefact, SegmenterManifest
from service.manifest.shapes import SMALLEST_SIDE
from service.media.types import MediaInfo
from service.outputs.contact_sheet import SheetRow, contact_sheet
from service.outputs.masks import segments, to_png, to_zip
from service.outputs.overlay import draw_legend, overlay, overlay_size, to_jpeg, to_mp4
from service.outputs.windows import WindowGrid
from service.pipeline import Pipeline, Segmentation, SegmentOptions

MaskFormat = Literal["png", "overlay", "rle"]


class PicturesQuery(PartQuery):
    """Parameters that choose the pictures of a video and the size at which they are looked at."""

    fps: float = Field(1.0, gt=0, le=240, allow_inf_nan=False, description="masks for each second of a video")
    short_side: int | None = Field(
        None,
        ge=SMALLEST_SIDE,
        # The longest side of a JPEG.
        le=65535,
        description="look at the picture at this short side, pixels, instead of the one the model was trained for; "
        "what is larger than the model takes at once is looked at through overlapping windows",
    )


class SegmentQuery(PicturesQuery, PriorityQuery, ShowQuery):
    """Query parameters of a segmentation."""

    output: MaskFormat = Field(
        "png",
        description="png: the class of each pixel as an indexed PNG, for a video a zip of them; overlay: the picture "
        "with its classes blended in and a legend, as JPEG, for a video as H.264 in mp4; rle: JSON with each class's "
        "label, area and COCO run lengths",
    )


class RunLengths(BaseModel):
    """COCO's compressed form of a binary mask; pycocotools decodes it."""

    size: tuple[int, int] = Field(description="height and width")
    counts: str


class SegmentBody(BaseModel):
    """All pixels of one class."""

    index: int
    label: str
    color: tuple[int, int, int] = Field(description="red, green, blue in the other outputs")
    area: int = Field(description="pixels")
    share: float = Field(description="of the picture's pixels")
    rle: RunLengths


class MaskBody(BaseModel):
    """The classes found in one picture, largest first."""

    frame: int = Field(description="number of the decoded frame; 0 for a picture")
    time_seconds: float
    segments: list[SegmentBody]


class SegmentationBody(BaseModel):
    """Answer to a segmentation with output=rle."""

    model: str
    version: str
    media: MediaInfo
    masks: list[MaskBody]
    timing_seconds: TimingBody
    batch_size: int


_OUTPUTS: dict[str, Any] = {
    "description": "the masks, in the form that `output` names",
    "model": SegmentationBody,
    "content": {
        media_type: {"schema": {"type": "string", "format": "binary"}}
        for media_type in ("image/png", "image/jpeg", "application/zip", "video/mp4")
    },
}

router = APIRouter(prefix="/v1", tags=["media"], responses={**PROBLEMS, 200: _OUTPUTS})


@router.post("/segment", openapi_extra=REQUEST_BODY, response_class=Response)
async def segment_default(request: Request, query: Annotated[SegmentQuery, Query()]) -> Response:
    """Find the class of every pixel of a video or image with the default segmentation model."""
    return await _segment(request, None, None, query)


@router.post("/models/{name}/segment", openapi_extra=REQUEST_BODY, response_class=Response)
async def segment(request: Request, name: str, query: Annotated[SegmentQuery, Query()]) -> Response:
    """Find the class of every pixel of a video or image with the default version of model `name`."""
    return await _segment(request, name, None, query)


@router.post("/models/{name}/versions/{version}/segment", openapi_extra=REQUEST_BODY, response_class=Response)
async def segment_with_version(
    request: Request, name: str, version: str, query: Annotated[SegmentQuery, Query()]
) -> Response:
    """Find the class of every pixel of a video or image with version `version` of model `name`."""
    return await _segment(request, name, version, query)


async def _segment(request: Request, name: str | None, version: str | None, query: SegmentQuery) -> DeliveredResponse:
    options = SegmentOptions(
        **query.model_dump(include={"fps", "short_side", "start", "end", "priority"}),
        originals=query.output == "overlay" and query.show == "answer",
    )
    pipeline = server_state(request).pipeline
    async with accepted_upload(request, name, version, SegmenterManifest, query.priority) as (job, upload):
        if query.show == "frames":
            return await _show_frames(pipeline, job, upload, options)
        result = await pipeline.segment(job, upload, options)
        # Drawing and packing take as long as the pixels are many.
        render = _RENDERERS[query.output]
        answer = await pipeline.rendering.run(job.memory, render, result, job.model.artefact, query)
        job.memory.keep(answer.size)
        return answer


async def _show_frames(
    pipeline: Pipeline, job: Job[SegmenterManifest], upload: int, options: SegmentOptions
) -> DeliveredResponse:
    decoded, grid = await pipeline.input_pictures(job, upload, options)
    result, media = decoded.result, decoded.result.media
    manifest = job.model.manifest
    title = f"{manifest.full_name}: {media.codec} {media.width}x{media.height}"
    rows = [
        SheetRow(f"#{frame}  {time:.3f} s", [f"x {left}, y {top}" for left in grid.lefts])
        for frame, time in zip(result.frames, result.times, strict=True)
        for top in grid.tops
    ]
    job.memory.take(len(decoded.arrays[0]) * grid.count * prod(grid.window) * 3)
    # Cutting and drawing take as long as the pixels are many.
    sheet = await pipeline.rendering.run(
        job.memory, lambda: contact_sheet(title, rows, _windows(decoded.arrays[0], grid))
    )
    job.memory.keep(len(sheet))
    return DeliveredResponse(sheet, media_type="image/png")


def _windows(pictures: NDArray[np.uint8], grid: WindowGrid) -> NDArray[np.uint8]:
    """Return the windows of pictures (N, H, W, 3), a row of them after the other: (N * rows, columns, h, w, 3)."""
    return np.stack([grid.row(picture, number) for picture in pictures for number in range(len(grid.tops))])


def _png(result: Segmentation, artefact: Artefact, _query: SegmentQuery) -> DeliveredResponse:
    if result.decoded.media.kind == "image":
        return DeliveredResponse(to_png(result.masks[0], artefact.palette), media_type="image/png")
    masks = zip(result.decoded.frames, result.masks, strict=True)
    return DeliveredResponse(to_zip(masks, artefact.palette), media_type="application/zip")


def _overlay(result: Segmentation, artefact: Artefact, query: SegmentQuery) -> DeliveredResponse:
    assert result.originals is not None
    legend = draw_legend(result.masks, artefact.labels, artefact.palette)
    is_image = result.decoded.media.kind == "image"
    size = overlay_size(result.masks[0], legend, "JPEG" if is_image else "H.264")
    pictures = (
        overlay(picture, mask, artefact.palette, legend)
        for picture, mask in zip(result.originals, result.masks, strict=True)
    )
    if is_image:
        return DeliveredResponse(to_jpeg(next(pictures)), media_type="image/jpeg")
    # No frame is shown twice, so the video's own rate is the fastest there can be.
    fps = min(query.fps, result.decoded.media.fps or query.fps)
    return DeliveredResponse(to_mp4(pictures, size, Fraction(fps).limit_denominator(1001)), media_type="video/mp4")


def _rle(result: Segmentation, artefact: Artefact, _query: SegmentQuery) -> DeliveredResponse:
    manifest, decoded = artefact.manifest, result.decoded
    masks = [
        MaskBody(frame=frame, time_seconds=time, segments=_segment_bodies(mask, artefact))
        for frame, time, mask in zip(decoded.frames, decoded.times, result.masks, strict=True)
    ]
    answer = SegmentationBody(
        model=manifest.name,
        version=manifest.version,
        media=decoded.media,
        masks=masks,
        timing_seconds=TimingBody.of(result.timing),
        batch_size=result.batch_size,
    )
    return DeliveredResponse(answer.model_dump_json().encode(), media_type="application/json")


def _segment_bodies(mask: Any, artefact: Artefact) -> list[SegmentBody]:
    return [
        SegmentBody(
            index=found.index,
            label=found.label,
            color=found.color,
            area=found.area,
            share=found.share,
            rle=RunLengths(size=found.size, counts=found.counts),
        )
        for found in segments(mask, artefact.labels, artefact.palette)
    ]


_RENDERERS = {"png": _png, "overlay": _overlay, "rle": _rle}

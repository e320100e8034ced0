"""A model that names classes, as the protocol sees it."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from service.api.classify import ViewsQuery
from service.api.v2.interface import CLIP, FRAMES, Answered, ModelInterface, Tensor, check_count, of_element
from service.api.v2.schema import RequestParameters
from service.errors import ServiceError
from service.job import Job
from service.manifest import ClassifierManifest
from service.outputs.classification import combine_views
from service.pipeline import Classification, ClassifyOptions, Pipeline
from service.repository.served import ServedModel
from service.settings import Settings


class ClipParameters(RequestParameters, ViewsQuery):
    """Parameters of a request with `clip`: those of POST /v1/classify."""


class ClassifierInterface(ModelInterface[ClassifierManifest]):
    """`scores` (N, classes), 0 to 1, one row an encoded file or view; `logits` (N, classes), of `frames` alone."""

    clip_parameters = ClipParameters
    outputs_of: ClassVar[Mapping[str, tuple[str, ...]]] = {CLIP: ("scores",), FRAMES: ("scores", "logits")}
    class_outputs = ("scores", "logits")

    def __init__(self, model: ServedModel[ClassifierManifest], settings: Settings) -> None:
        super().__init__(model, settings)
        self.outputs = (
            Tensor("scores", "FP32", (-1, model.manifest.num_classes)),
            *(Tensor.of(spec) for spec in model.manifest.outputs),
        )

    def check_clips(self, count: int, parameters: RequestParameters) -> None:
        assert isinstance(parameters, ClipParameters)
        views = self.model.manifest.views
        each = (parameters.clips or views.clips) * (parameters.crops or views.crops)
        check_count(
            count * each, self.settings.max_views, f"views ({count} elements of `{CLIP}` with {each} clips x crops)"
        )

    def check_frames(self, shape: Sequence[int]) -> None:
        check_count(shape[0], self.settings.max_views, f"views in `{FRAMES}`")

    async def answer_clips(
        self, pipeline: Pipeline, job: Job[ClassifierManifest], clips: Sequence[int], parameters: RequestParameters
    ) -> Answered:
        assert isinstance(parameters, ClipParameters)
        options = ClassifyOptions(
            **parameters.model_dump(include={"clips", "crops", "start", "end"}), priority=parameters.place
        )

        async def classify(number: int, clip: int) -> Classification:
            try:
                return await pipeline.classify(job, clip, options)
            except ServiceError as error:
                raise of_element(error, number, len(clips)) from error

        job.caller.expect(len(clips) - 1)
        tasks = [asyncio.ensure_future(classify(number, clip)) for number, clip in enumerate(clips)]
        try:
            results = await asyncio.gather(*tasks)
            scores = np.stack([result.scores for result in results])
            return Answered({"scores": scores}, max(result.batch_size for result in results))
        finally:
            # When one fails, the request has no use for the others.
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    async def answer_frames(
        self,
        pipeline: Pipeline,
        job: Job[ClassifierManifest],
        frames: NDArray[np.uint8],
        parameters: RequestParameters,
    ) -> Answered:
        manifest = self.model.manifest
        result = await pipeline.run(job, frames, "logits", parameters.place)
        # Each row is a request's only view.
        rows = [combine_views(row[None], manifest.views.combine, manifest.multi_label) for row in result.outputs]
        return Answered({"scores": np.stack(rows), "logits": result.outputs}, result.batch_size)

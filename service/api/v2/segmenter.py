"""A model that names the class of every pixel, as the protocol sees it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import reduce
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from service.api.segment import PicturesQuery
from service.api.v2.interface import CLIP, FRAMES, Answered, ModelInterface, Tensor, check_count, of_element
from service.api.v2.schema import RequestParameters
from service.errors import BadParameterError, ServiceError
from service.job import Job, Timing, note_stages
from service.manifest import SegmenterManifest
from service.manifest.shapes import SIDE_MULTIPLE, SMALLEST_SIDE
from service.memory import Lease
from service.offloading import off_loop
from service.outputs.masks import Mask
from service.pipeline import Pipeline, SegmentOptions


class ClipParameters(RequestParameters, PicturesQuery):
    """Parameters of a request with `clip`: those of POST /v1/segment."""


class SegmenterInterface(ModelInterface[SegmenterManifest]):
    """`mask` (N, H, W): the class of each pixel; at the upload's own size for `clip`, at that of `frames` for them."""

    clip_parameters = ClipParameters
    outputs = (Tensor("mask", "UINT8", (-1, -1, -1)),)
    outputs_of: ClassVar[Mapping[str, tuple[str, ...]]] = {CLIP: ("mask",), FRAMES: ("mask",)}
    class_outputs = ()

    def check_clips(self, count: int, _parameters: RequestParameters) -> None:
        check_count(count, self.settings.max_segmented_frames, f"elements of `{CLIP}`")

    def check_frames(self, shape: Sequence[int]) -> None:
        count, height, width = shape[:3]
        check_count(count, self.settings.max_segmented_frames, f"pictures in `{FRAMES}`")
        if min(height, width) < SMALLEST_SIDE or height % SIDE_MULTIPLE or width % SIDE_MULTIPLE:
            raise BadParameterError(
                f"`{FRAMES}` has pictures of height {height} and width {width}; "
                f"both must be multiples of {SIDE_MULTIPLE}, at least {SMALLEST_SIDE}"
            )
        rule = self.model.manifest.preprocessing
        if not rule.takes(height, width):
            raise BadParameterError(
                f"`{FRAMES}` has pictures of height {height} and width {width}, {height * width} pixels; "
                f"the model takes {rule.most_pixels} at once, and sides of {rule.longest_side} at most: "
                f"send them encoded, as `{CLIP}`, which looks at them through windows"
            )
        check_count(count * height * width, self.settings.max_segmented_pixels, f"pixels in `{FRAMES}`")

    async def answer_clips(
        self, pipeline: Pipeline, job: Job[SegmenterManifest], clips: Sequence[int], parameters: RequestParameters
    ) -> Answered:
        assert isinstance(parameters, ClipParameters)
        options = SegmentOptions(
            **parameters.model_dump(include={"fps", "short_side", "start", "end"}), priority=parameters.place
        )
        masks: list[Mask] = []
        timings: list[Timing] = []
        batch_size = 0
        # One after the other, so that the request holds the pictures of no more than one upload.
        for number, clip in enumerate(clips):
            try:
                result = await pipeline.segment(job.next_upload() if number else job, clip, options)
                found, batch_size = result.masks, max(batch_size, result.batch_size)
                if len(clips) > 1 and len(found) > 1:
                    raise BadParameterError(f"it is a video with {len(found)} masks: send it in a request of its own")
                self._check_masks([*masks, *found])
            except ServiceError as error:
                raise of_element(error, number, len(clips)) from error
            masks += found
            timings.append(result.timing)
        note_stages(reduce(Timing.then, timings))
        return Answered({"mask": await _stacked(masks, job.memory)}, batch_size)

    def _check_masks(self, masks: Sequence[Mask]) -> None:
        sizes = sorted({(mask.shape[1], mask.shape[0]) for mask in masks})
        if len(sizes) > 1:
            found = ", ".join(f"{width}x{height}" for width, height in sizes)
            raise BadParameterError(f"a tensor holds masks of one size and the pictures have {found}: send them apart")
        check_count(
            sum(mask.size for mask in masks), self.settings.max_segmented_pixels, "pixels in all pictures together"
        )

    async def answer_frames(
        self,
        pipeline: Pipeline,
        job: Job[SegmenterManifest],
        frames: NDArray[np.uint8],
        parameters: RequestParameters,
    ) -> Answered:
        result = await pipeline.run(job, frames, "mask", parameters.place)
        return Answered({"mask": result.outputs}, result.batch_size)


async def _stacked(masks: Sequence[Mask], memory: Lease) -> NDArray[np.uint8]:
    """Return the masks (H, W) as one array (N, H, W); `memory` has them, and then that."""
    if len(masks) == 1:
        return masks[0][None]
    size = sum(mask.nbytes for mask in masks)
    memory.take(size)
    stacked: NDArray[np.uint8] = await off_loop(size, np.stack, masks)
    memory.keep(size)
    return stacked

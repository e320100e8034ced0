"""Masks of an upload's pictures: the network is run on their windows, and what it answers is put together."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from service.job import Job
from service.manifest import SegmenterManifest
from service.media.types import PictureResult
from service.media.worker_process import Decoded
from service.outputs.masks import Mask, enlarge, mask_of_logits
from service.outputs.windows import Stitcher, WindowGrid
from service.priority import Priority
from service.rendering import Rendering

# Of a pixel while its overlay is drawn and written: RGB, and the four that PIL keeps.
_OVERLAY_BYTES = 7


class PictureSegmenter:
    """Makes the masks of one upload's pictures, one after the other.

    Args:
        job: The request.
        rendering: Threads that make masks.
        grid: Windows of each picture.
        decoded: What the pictures are of.
        priority: Of all runs.

    Attributes:
        views: Windows that were run.
        queued: Seconds that they waited, all submits together.
        batch_size: Largest batch that one of them ran in.
    """

    def __init__(
        self,
        job: Job[SegmenterManifest],
        rendering: Rendering,
        grid: WindowGrid,
        decoded: PictureResult,
        priority: Priority,
    ) -> None:
        self._job = job
        self._rendering = rendering
        self._grid = grid
        self._decoded = decoded
        self._priority = priority
        # Submits, each of which is made when the one before is answered.
        self._left = len(decoded.frames) * len(grid.tops)
        self.views = 0
        self.queued = 0.0
        self.batch_size = 0

    async def mask(self, picture: NDArray[np.uint8]) -> Mask:
        """Return the mask of one picture, uint8 (H, W, 3), at the upload's size.

        Raises:
            ServiceError: As Batcher.submit.
        """
        media, (height, width) = self._decoded.media, self._decoded.content
        size, grid = (media.height, media.width), self._grid
        make, memory = self._rendering.run, self._job.memory
        if grid.count == 1:
            (logits,) = await self._run(picture[None])
            return await make(memory, mask_of_logits, logits, grid.size, (height, width), size)
        stitcher = Stitcher(grid, self._job.model.manifest.num_classes)
        for number in range(len(grid.tops)):
            # The logits have no name here, which would keep them while those of the next row come.
            await make(memory, stitcher.add_row, number, await self._run(grid.row(picture, number)))
        return await make(memory, enlarge, stitcher.mask()[:height, :width], size)

    async def _run(self, windows: NDArray[np.uint8]) -> list[NDArray[Any]]:
        """Return the logits of the next windows (N, ...)."""
        self._left -= 1
        outputs = await self._job.caller.submit(windows, "logits", self._priority, more=self._left > 0)
        self.views += len(outputs)
        self.queued += min(output.queued for output in outputs)
        self.batch_size = max(self.batch_size, *(output.batch_size for output in outputs))
        return [output.output for output in outputs]


def bytes_seen(decoded: Decoded[PictureResult]) -> int:
    """Return what the pictures take as the network sees them, and a mask of that size."""
    _, height, width, _ = decoded.result.shape
    return decoded.arrays[0].nbytes + height * width


def bytes_answered(decoded: Decoded[PictureResult]) -> int:
    """Return what is taken at the upload's size: the masks, and wanted pictures with one overlay of them."""
    result = decoded.result
    pixels = result.media.height * result.media.width
    masks = len(result.frames) * pixels
    return masks if result.original_shape is None else masks + decoded.arrays[1].nbytes + _OVERLAY_BYTES * pixels

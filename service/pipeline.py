"""One request from its uploaded bytes to its answer: decode, batch, combine."""

from __future__ import annotations

from dataclasses import dataclass
from time import perf_counter
from typing import Any

import numpy as np
from numpy.typing import NDArray

from service.batching import ViewOutput
from service.context import stage
from service.errors import BadParameterError, OverloadedError
from service.job import Clock, Job, Timing, note_stages
from service.manifest import ClassifierManifest, SegmenterManifest
from service.media.pool import DecodePool
from service.media.types import (
    AnyRequest,
    DecodeLimits,
    DecodeRequest,
    DecodeResult,
    PictureRequest,
    PictureResult,
)
from service.media.worker_process import Decoded, ResultT, WorkerProcess
from service.metrics import Metrics
from service.offloading import off_loop
from service.outputs.classification import Prediction, combine_views, top_k
from service.outputs.masks import Mask
from service.outputs.windows import WindowGrid, bytes_of_logits, window_grid
from service.priority import Priority
from service.rendering import Rendering
from service.repository.served import ServedModel
from service.runtimes.base import OutputName
from service.segmenting import PictureSegmenter, bytes_answered, bytes_seen
from service.service_time import retry_after
from service.settings import Settings


@dataclass(frozen=True)
class ClassifyOptions:
    """What a client may choose; None takes the model's own protocol.

    Attributes:
        top_k: Classes to name.
        clips, crops: Views to look at.
        start, end: Part of the video, seconds.
        priority: Where the request stands in the waiting lines.
    """

    top_k: int = 5
    clips: int | None = None
    crops: int | None = None
    start: float | None = None
    end: float | None = None
    priority: Priority = "normal"


@dataclass(frozen=True)
class SegmentOptions:
    """What a client may choose.

    Attributes:
        fps: Masks for each second of a video.
        short_side: Short side at which pictures are looked at, pixels; None: the model's own.
        start, end: Part of the video, seconds.
        priority: Where the request stands in the waiting lines.
        originals: Whether the pictures are wanted beside the masks.
    """

    fps: float = 1.0
    short_side: int | None = None
    start: float | None = None
    end: float | None = None
    priority: Priority = "normal"
    originals: bool = False


@dataclass(frozen=True)
class Classification:
    """The answer to one upload.

    Attributes:
        predictions: The best classes, best first.
        scores: Of every class, float32 (classes,), 0 to 1.
        batch_size: Largest batch that one of the views ran in.
    """

    predictions: list[Prediction]
    scores: NDArray[np.float32]
    decoded: DecodeResult
    timing: Timing
    batch_size: int


@dataclass(frozen=True)
class Segmentation:
    """The answer to one upload.

    Attributes:
        masks: Class of each pixel, (H, W) as a viewer shows the upload, one for each picture of `decoded`.
        originals: The pictures themselves, uint8 RGB (N, H, W, 3), if they were wanted.
        batch_size: Largest batch that one of the pictures or windows ran in.
    """

    masks: list[Mask]
    originals: NDArray[np.uint8] | None
    decoded: PictureResult
    timing: Timing
    batch_size: int


@dataclass(frozen=True)
class RunResult:
    """What the network made of frames that needed no decoding.

    Attributes:
        outputs: (N, ...); see Runtime.
        batch_size: Largest batch that one of them ran in.
    """

    outputs: NDArray[Any]
    batch_size: int


def decode_limits(settings: Settings) -> DecodeLimits:
    """Return what the settings let one upload be."""
    return DecodeLimits(
        max_pixels=settings.max_pixels,
        max_frames=settings.max_frames,
        max_seconds=settings.max_seconds,
        max_streams=settings.max_streams,
    )


class Pipeline:
    """Takes uploads through decoding, batching and combining.

    Args:
        pool: Decode workers.
        rendering: Threads that make masks and draw pictures.
        metrics: Where durations and counts go.
        settings: Limits.
    """

    def __init__(self, pool: DecodePool, rendering: Rendering, metrics: Metrics, settings: Settings) -> None:
        self._pool = pool
        self.rendering = rendering
        self._metrics = metrics
        self._settings = settings
        self._limits = decode_limits(settings)

    async def classify(self, job: Job[ClassifierManifest], upload: int, options: ClassifyOptions) -> Classification:
        """Classify an upload.

        Args:
            job: The request.
            upload: File descriptor of a memory file with all of it.
            options: The client's choices.

        Raises:
            ServiceError: Anything that `service.errors` names.
        """
        clock, model = Clock(job), job.model
        manifest = model.manifest
        decoded = await self._decode(
            model, upload, self._view_request(manifest, options), DecodeResult, clock, options.priority
        )
        spec = manifest.inputs[0]
        pixels = decoded.arrays[0]
        job.memory.take(pixels.nbytes)
        with clock.running():
            outputs = await job.caller.submit(
                pixels.reshape(len(pixels), *(axis for axis in spec.shape if isinstance(axis, int))),
                priority=options.priority,
            )
            job.memory.give_back(pixels.nbytes)
            batch_size = _note_run(clock, outputs)
            logits = np.stack([output.output for output in outputs])
            scores = combine_views(logits, manifest.views.combine, manifest.multi_label)
            predictions = top_k(scores, model.artefact.labels, options.top_k)
        timing = clock.timing()
        self._metrics.clips.labels(manifest.name).inc()
        self._count_run(manifest.name, timing, len(outputs))
        return Classification(predictions, scores, decoded.result, timing, batch_size)

    async def input_views(
        self, job: Job[ClassifierManifest], upload: int, options: ClassifyOptions
    ) -> Decoded[DecodeResult]:
        """Return what the network would see of an upload: uint8 (views, T, H, W, 3).

        The job's memory has that and what drawing it takes. Args and Raises as for `classify`.
        """
        job.caller.finish()
        clock, model = Clock(job), job.model
        request = self._view_request(model.manifest, options)
        decoded = await self._decode(model, upload, request, DecodeResult, clock, options.priority)
        job.memory.take(2 * decoded.arrays[0].nbytes)
        note_stages(clock.timing())
        return decoded

    async def segment(self, job: Job[SegmenterManifest], upload: int, options: SegmentOptions) -> Segmentation:
        """Find the class of every pixel of an upload. The job's memory has what is returned, and what drawing it takes.

        Args and Raises as for `classify`.
        """
        clock, model = Clock(job), job.model
        manifest = model.manifest
        decoded, grid = await self._pictures(job, upload, options, clock)
        result, pictures = decoded.result, decoded.arrays[0]
        # Before they are there: refused afterwards, the request would have been run for nothing.
        job.memory.take(logits := bytes_of_logits(grid, manifest.num_classes))
        segmenter = PictureSegmenter(job, self.rendering, grid, result, options.priority)
        with clock.running():
            # One picture after the other: the logits of all of them would be too much to hold.
            masks = [await segmenter.mask(picture) for picture in pictures]
            clock.ran(segmenter.queued, segmenter.batch_size)
        timing = clock.timing()
        self._metrics.clips.labels(manifest.name).inc()
        self._count_run(manifest.name, timing, segmenter.views)
        job.memory.give_back(bytes_seen(decoded) + logits)
        originals = decoded.arrays[1] if options.originals else None
        return Segmentation(masks, originals, result, timing, segmenter.batch_size)

    async def input_pictures(
        self, job: Job[SegmenterManifest], upload: int, options: SegmentOptions
    ) -> tuple[Decoded[PictureResult], WindowGrid]:
        """Return what the network would see of an upload, and in which windows.

        The pictures are uint8 (N, H, W, 3). Args and Raises as for `classify`.
        """
        job.caller.finish()
        clock = Clock(job)
        seen = await self._pictures(job, upload, options, clock)
        note_stages(clock.timing())
        return seen

    async def run(self, job: Job[Any], frames: NDArray[np.uint8], output: OutputName, priority: Priority) -> RunResult:
        """Run frames that need no decoding: uint8 (N, ...), each of N as the model's input wants it.

        Raises:
            ServiceError: As Batcher.submit.
        """
        clock = Clock(job, acquired=job.received, decoded=job.received)
        with clock.running():
            outputs = await job.caller.submit(frames, output, priority)
            batch_size = _note_run(clock, outputs)
        self._count_run(job.model.manifest.name, clock.timing(), len(frames))
        rows = [output.output for output in outputs]
        stacked = await off_loop(sum(row.nbytes for row in rows), np.stack, rows)
        return RunResult(stacked, batch_size)

    async def _pictures(
        self, job: Job[SegmenterManifest], upload: int, options: SegmentOptions, clock: Clock
    ) -> tuple[Decoded[PictureResult], WindowGrid]:
        manifest = job.model.manifest
        request = self._picture_request(manifest, options)
        decoded = await self._decode(job.model, upload, request, PictureResult, clock, options.priority)
        # How much it is, is known now; by then it is held already, by no more requests than there are decode workers.
        job.memory.take(bytes_seen(decoded) + bytes_answered(decoded))
        count, height, width = decoded.result.shape[:3]
        grid = window_grid((height, width), manifest.preprocessing)
        if (windows := count * grid.count) > self._settings.max_windows:
            raise BadParameterError(
                f"{count} pictures of {width}x{height} are {windows} windows of {grid.window[1]}x{grid.window[0]}; "
                f"the limit is {self._settings.max_windows}: ask for a smaller short_side"
            )
        return decoded, grid

    async def _decode(
        self,
        model: ServedModel[Any],
        upload: int,
        request: AnyRequest,
        result_type: type[ResultT],
        clock: Clock,
        priority: Priority,
    ) -> Decoded[ResultT]:
        """Decode the upload for a model."""
        name = model.manifest.name
        with stage("queue.decode"):
            worker = await self._free_worker(model, clock, priority)
        clock.acquired = perf_counter()
        try:
            with stage("decode"):
                decoded = await self._pool.decode(worker, upload, request, result_type)
        finally:
            clock.decoded = perf_counter()
            self._metrics.decode_seconds.labels(name).observe(clock.decoded - clock.acquired)
        self._metrics.frames_decoded.labels(name).inc(decoded.result.frames_decoded)
        self._metrics.frames_needed.labels(name).inc(decoded.result.frames_needed)
        return decoded

    async def _free_worker(self, model: ServedModel[Any], clock: Clock, priority: Priority) -> WorkerProcess:
        """Wait for a decode worker, and refuse a request that has waited for so long that it would not be done in time.

        Its work would be for nothing, and keep others from being in time. One that need not wait is always tried: what
        is expected goes by the last uploads, which may have been larger.

        Raises:
            OverloadedError: As said; what was expected when the request came was too little.
            QueueFullError: As DecodePool.acquire.
        """
        at_once = self._pool.has_idle
        worker = await self._pool.acquire(priority)
        waited = perf_counter() - clock.job.began
        needed = self._pool.expected_decode + model.batcher.expected_wait(priority)
        if at_once or waited + needed <= model.request_timeout:
            return worker
        self._pool.release(worker)
        raise OverloadedError(
            f"after {waited:.1f} s of waiting the request would not be done within the {model.request_timeout:g} s "
            "that it gets: try again later",
            retry_after=retry_after(self._pool.expected_wait(priority)),
        )

    def _view_request(self, manifest: ClassifierManifest, options: ClassifyOptions) -> DecodeRequest:
        _check_part(options.start, options.end)
        clips, crops = options.clips or manifest.views.clips, options.crops or manifest.views.crops
        if clips * crops > self._settings.max_views:
            raise BadParameterError(
                f"{clips} clips x {crops} crops are {clips * crops} views; the limit is {self._settings.max_views}"
            )
        return DecodeRequest(
            preprocessing=manifest.preprocessing,
            sampling=manifest.sampling,
            views=manifest.views.model_copy(update={"clips": clips, "crops": crops}),
            limits=self._limits,
            start=options.start,
            end=options.end,
        )

    def _picture_request(self, manifest: SegmenterManifest, options: SegmentOptions) -> PictureRequest:
        _check_part(options.start, options.end)
        return PictureRequest(
            preprocessing=manifest.preprocessing,
            limits=self._limits,
            short_side=options.short_side,
            fps=options.fps,
            start=options.start,
            end=options.end,
            max_pictures=self._settings.max_segmented_frames,
            max_total_pixels=self._settings.max_segmented_pixels,
            originals=options.originals,
        )

    def _count_run(self, name: str, timing: Timing, views: int) -> None:
        note_stages(timing)
        metrics = self._metrics
        metrics.request_seconds.labels(name).observe(timing.total)
        metrics.queue_seconds.labels(name).observe(timing.queue)
        metrics.inference_seconds.labels(name).observe(timing.inference)
        metrics.views.labels(name).inc(views)


def _note_run(clock: Clock, outputs: list[ViewOutput]) -> int:
    """Tell the clock of the run of one submit; return the size of its largest batch."""
    batch_size = max(output.batch_size for output in outputs)
    clock.ran(min(output.queued for output in outputs), batch_size)
    return batch_size


def _check_part(start: float | None, end: float | None) -> None:
    if start is not None and end is not None and end <= start:
        raise BadParameterError(f"end={end} must lie after start={start} (seconds)")

"""One request from its uploaded bytes to its answer: decode, batch, combine."""

from __future__ import annotations

from dataclasses import dataclass
from time import perf_counter

import numpy as np

from service.errors import BadParameterError
from service.media.pool import DecodePool
from service.media.types import DecodeLimits, DecodeRequest, DecodeResult
from service.metrics import Metrics
from service.outputs.classification import Prediction, combine_views, top_k
from service.repository import ServedModel
from service.settings import Settings


@dataclass(frozen=True)
class ClassifyOptions:
    """What a client may choose; None takes the model's own protocol.

    Attributes:
        top_k: Classes to name.
        clips, crops: Views to look at.
        start, end: Part of the video, seconds.
    """

    top_k: int = 5
    clips: int | None = None
    crops: int | None = None
    start: float | None = None
    end: float | None = None


@dataclass(frozen=True)
class Timing:
    """Where the time of a request went, seconds; the parts add up to nearly the total."""

    receive: float
    decode: float
    queue: float
    inference: float
    total: float


@dataclass(frozen=True)
class Classification:
    """The answer to one upload.

    Attributes:
        batch_size: Largest batch that one of the views ran in.
    """

    predictions: list[Prediction]
    decoded: DecodeResult
    timing: Timing
    batch_size: int


class Pipeline:
    """Takes uploads through decoding, batching and combining.

    Args:
        pool: Decode workers.
        metrics: Where durations and counts go.
        settings: Limits.
    """

    def __init__(self, pool: DecodePool, metrics: Metrics, settings: Settings) -> None:
        self._pool = pool
        self._metrics = metrics
        self._settings = settings
        self._limits = DecodeLimits(
            max_pixels=settings.max_pixels,
            max_frames=settings.max_frames,
            max_seconds=settings.max_seconds,
            max_streams=settings.max_streams,
        )

    async def classify(self, model: ServedModel, upload: int, options: ClassifyOptions, began: float) -> Classification:
        """Classify the upload in file descriptor `upload`.

        Args:
            model: Model to ask.
            upload: Memory file with the whole body.
            options: The client's choices.
            began: perf_counter() when the request came in.

        Raises:
            ServiceError: Anything that `service.errors` names.
        """
        received = perf_counter()
        request = self._decode_request(model, options)
        worker = await self._pool.acquire()
        acquired = perf_counter()
        decoded = await self._pool.decode(worker, upload, request)
        decode_done = perf_counter()
        spec = model.manifest.inputs[0]
        frames = decoded.pixels.reshape(len(decoded.pixels), *(axis for axis in spec.shape if axis != "batch"))
        outputs = await model.batcher.submit(frames)
        logits = np.stack([output.logits for output in outputs])
        scores = combine_views(logits, model.manifest.views.combine, model.manifest.multi_label)
        predictions = top_k(scores, model.artefact.labels, options.top_k)
        done = perf_counter()
        in_batch_queue = min(output.queued for output in outputs)
        timing = Timing(
            receive=received - began,
            decode=decode_done - acquired,
            queue=acquired - received + in_batch_queue,
            inference=done - decode_done - in_batch_queue,
            total=done - began,
        )
        batch_size = max(output.batch_size for output in outputs)
        self._count(model, decoded.result, timing, batch_size)
        return Classification(predictions, decoded.result, timing, batch_size)

    def _decode_request(self, model: ServedModel, options: ClassifyOptions) -> DecodeRequest:
        manifest = model.manifest
        if options.start is not None and options.end is not None and options.end <= options.start:
            raise BadParameterError(f"end={options.end} must lie after start={options.start} (seconds)")
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

    def _count(self, model: ServedModel, decoded: DecodeResult, timing: Timing, batch_size: int) -> None:
        metrics, name = self._metrics, model.manifest.name
        metrics.request_seconds.labels(name).observe(timing.total)
        metrics.decode_seconds.labels(name).observe(timing.decode)
        metrics.queue_seconds.labels(name).observe(timing.queue)
        metrics.inference_seconds.labels(name).observe(timing.inference)
        metrics.batch_size.labels(name).observe(batch_size)
        metrics.clips.labels(name).inc()
        metrics.views.labels(name).inc(len(decoded.views))
        metrics.frames_decoded.labels(name).inc(decoded.frames_decoded)
        metrics.frames_needed.labels(name).inc(len({frame for view in decoded.views for frame in view.frames}))

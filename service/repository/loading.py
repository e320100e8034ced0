"""From an artefact's folder to a model that is warm, off the event loop."""

from __future__ import annotations

import asyncio
import logging
from functools import partial
from pathlib import Path
from typing import Any

from service.batching import BatchSettings
from service.errors import RuntimeLoadError
from service.fairness import FairGate
from service.machine import ThreadPlan
from service.manifest import Artefact, Manifest, SegmenterManifest, read_artefact
from service.manifest.shapes import roomiest_view
from service.metrics import Metrics
from service.repository.served import ServedModel, check_runtime, example_batch, view_shapes
from service.runtimes.buckets import powers_of_two
from service.runtimes.kinds import CPU, GPU, GPU_KINDS
from service.runtimes.options import GpuOptions
from service.runtimes.selection import RuntimeChooser
from service.settings import Settings

logger = logging.getLogger(__name__)


class Loader:
    """Loads versions of models.

    Args:
        settings: What runs the models and how they are batched.
        metrics: Where loads and batches are counted.
        threads: Who gets how many of them.
    """

    def __init__(self, settings: Settings, metrics: Metrics, threads: ThreadPlan) -> None:
        self._settings = settings
        self._metrics = metrics
        # A run on one device takes nothing that those on the other wait for.
        self._gates = {device: FairGate(threads.runs_at_once) for device in (CPU, GPU)}
        self._runtime_threads = threads.runtime_threads

    async def load(self, folder: Path) -> ServedModel[Any]:
        """Return the artefact in `folder` checked, loaded, warmed up and ready for requests.

        Raises:
            ManifestError: The artefact is invalid.
            RuntimeLoadError: A runtime refuses it, or it does not answer as its manifest says.
        """
        loads = self._metrics.model_loads
        try:
            model = await asyncio.to_thread(self._load_in_thread, folder)
        except Exception:
            loads.labels(folder.parent.name, "failed").inc()
            raise
        model.batcher.start()
        loads.labels(folder.parent.name, "loaded").inc()
        return model

    def _load_in_thread(self, folder: Path) -> ServedModel[Any]:
        try:
            return self._load(folder)
        except StopIteration as error:
            # asyncio hands it on to nobody: whoever waits for the thread would wait for ever.
            logger.exception("loading %s raised what only an iterator should", folder)
            raise RuntimeLoadError("StopIteration; the server's log has more") from error

    def _load(self, folder: Path) -> ServedModel[Any]:
        artefact = read_artefact(folder)
        name, version = artefact.manifest.name, artefact.manifest.version
        settings = self._settings.of_model(name)
        for warning in warnings_about(settings, artefact.manifest):
            logger.warning("%s/%s: %s", name, version, warning)
        batch = _batch_settings(settings, artefact.manifest.max_batch_size)
        examples = [example_batch(artefact.manifest, size) for size in _ends(batch)]
        options = gpu_options(artefact.manifest, settings)
        check = partial(check_runtime, artefact.manifest, batch.sizes)
        chooser = RuntimeChooser(settings.runtime, settings.precision, self._runtime_threads, settings.cache)
        model: ServedModel[Any] = ServedModel(
            artefact,
            [chooser.load(artefact, examples, check, options) for _ in range(settings.instances)],
            batch,
            settings.request_timeout,
            self._gates[GPU if settings.runtime in GPU_KINDS else CPU],
            self._metrics.of_model(name),
        )
        logger.info(
            "loaded %s/%s on %s, %s, instances: %d",
            name,
            version,
            model.runtime.name,
            model.runtime.precision,
            settings.instances,
        )
        return model


def try_runtimes(artefact: Artefact, settings: Settings, threads: int) -> dict[str, RuntimeLoadError | None]:
    """Try what a load would choose from, by the smallest and the largest batch.

    Args:
        artefact: The model.
        settings: Those of the model.
        threads: Of a run.

    Returns:
        By the name of each runtime why it cannot serve the model; None: it can.

    Raises:
        ManifestError: The model has no file of the precision that is to be served.
        RuntimeLoadError: There is no runtime to try.
    """
    chooser = RuntimeChooser(settings.runtime, settings.precision, threads, settings.cache)
    batch = _batch_settings(settings, artefact.manifest.max_batch_size)
    check = partial(check_runtime, artefact.manifest, _ends(batch))
    file, options = artefact.model_file(settings.precision), gpu_options(artefact.manifest, settings)
    refusals: dict[str, RuntimeLoadError | None] = {}
    for kind in chooser.kinds():
        try:
            chooser.open(kind, file, check, options)
        except RuntimeLoadError as error:
            refusals[kind.name] = error
        else:
            refusals[kind.name] = None
    return refusals


def _ends(batch: BatchSettings) -> list[int]:
    """Return the smallest and the largest size at which the network is run."""
    return sorted({batch.sizes[0], batch.sizes[-1]})


def _batch_settings(settings: Settings, largest: int) -> BatchSettings:
    """Return how a model is batched whose network takes `largest` views at most."""
    largest = min(settings.max_batch_size, largest)
    wanted = settings.batch_sizes
    if not wanted and settings.runtime in GPU_KINDS:
        # What is prepared for each size takes time and memory.
        wanted = powers_of_two(largest)
    smaller = {size for size in wanted if size < largest}
    return BatchSettings(
        max_batch_size=largest,
        max_queue_delay=settings.max_queue_delay,
        max_queue_size=settings.max_queue_size,
        batch_sizes=(*sorted(smaller), largest) if wanted else (),
        runtime_timeout=settings.runtime_timeout,
    )


def warnings_about(settings: Settings, manifest: Manifest) -> list[str]:
    """Return what an operator should know of a model that can be served all the same."""
    untrained = "untrained weights, its answers mean nothing: export it with `--checkpoint`"
    return [*_unused_sizes(settings, manifest), *([] if manifest.is_trained else [untrained])]


def _unused_sizes(settings: Settings, manifest: Manifest) -> list[str]:
    """Return which sizes of batches the settings of a model ask for in vain, each with the limits."""
    asked = {"batch_sizes": settings.batch_sizes}
    # Its default is meant for any model, and nobody misses what is above a smaller one's limit.
    if "max_batch_size" in settings.model_fields_set:
        asked["max_batch_size"] = (settings.max_batch_size,)
    largest = min(settings.max_batch_size, manifest.max_batch_size)
    return [
        f"{name}={size} is not used: batches have {largest} views at most, since max_batch_size is "
        f"{settings.max_batch_size} and `clipserve export --max-batch-size` was {manifest.max_batch_size}"
        for name, sizes in asked.items()
        for size in sizes
        if size > largest
    ]


def gpu_options(manifest: Manifest, settings: Settings) -> GpuOptions:
    """Return how a model is run on a GPU."""
    batch_sizes = tuple(_batch_settings(settings, manifest.max_batch_size).sizes)
    roomiest = None
    if isinstance(manifest, SegmenterManifest):
        roomiest = roomiest_view(manifest.preprocessing.short_side, manifest.preprocessing.max_long_side)
    return GpuOptions(batch_sizes, view_shapes(manifest), settings.gpu_memory_bytes, settings.cache, roomiest)

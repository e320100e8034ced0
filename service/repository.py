"""The models of a repository folder: found, checked, loaded, warmed up, and run behind a batcher each."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from itertools import product
from pathlib import Path
from typing import Any, Generic, TypeVar, cast

import numpy as np
from numpy.typing import NDArray

from service.batching import Batcher, BatchSettings
from service.errors import ManifestError, NotReadyError, RuntimeLoadError, UnknownModelError, WrongTaskError
from service.fairness import FairGate
from service.machine import ThreadPlan
from service.manifest import (
    MANIFEST_FILE,
    Artefact,
    ClassifierManifest,
    Manifest,
    SegmenterManifest,
    TensorSpec,
    read_artefact,
)
from service.metrics import Metrics, ModelMetrics
from service.runtimes.base import OutputName, Runtime
from service.runtimes.selection import RuntimeChooser
from service.settings import Settings

logger = logging.getLogger(__name__)

ManifestT = TypeVar("ManifestT", ClassifierManifest, SegmenterManifest)
# What a model does and the last part of the path that asks for it.
_DOES: dict[type[Manifest], tuple[str, str]] = {
    ClassifierManifest: ("classifies", "classify"),
    SegmenterManifest: ("segments", "segment"),
}


class ServedModel(Generic[ManifestT]):
    """One loaded model: its artefact, and a batcher that runs it.

    Args:
        artefact: What is served.
        runtimes: The instances that run it, all of one kind.
        settings: How views are batched.
        request_timeout: Seconds that a request gets.
        gate: Shared by the models that run on the same cores.
        metrics: Where batches are counted.
    """

    def __init__(
        self,
        artefact: Artefact,
        runtimes: Sequence[Runtime],
        settings: BatchSettings,
        request_timeout: float,
        gate: FairGate,
        metrics: ModelMetrics,
    ) -> None:
        self.artefact = artefact
        self.request_timeout = request_timeout
        self._runtimes = runtimes
        # One thread an instance, and one that puts the next batch together meanwhile.
        self._executor = ThreadPoolExecutor(len(runtimes) + 1, thread_name_prefix=f"batch-{artefact.manifest.name}")
        self.batcher = Batcher(runtimes, self._executor, settings, gate, metrics)

    @property
    def runtime(self) -> Runtime:
        """The first of its instances."""
        return self._runtimes[0]

    @property
    def manifest(self) -> ManifestT:
        """The artefact's manifest."""
        return cast(ManifestT, self.artefact.manifest)

    def warm_up(self) -> None:
        """Run every batch size once on every instance, so that no request pays for a first time.

        Raises:
            RuntimeLoadError: An output has not the shape that the manifest promises.
        """
        for runtime, size in product(self._runtimes, self.batcher.settings.sizes):
            frames = example_batch(self.manifest, size)
            for output in self.manifest.outputs:
                expected = _fixed_shape(output, self.manifest, size)
                shape = runtime.run(frames, cast(OutputName, output.name)).shape
                if shape != expected:
                    raise RuntimeLoadError(
                        f"{self.manifest.name} answered a batch of {size} with {output.name} of shape {shape}, "
                        f"its manifest says {expected}"
                    )

    async def close(self) -> None:
        """Stop the batcher and its threads."""
        await self.batcher.stop()
        self._executor.shutdown(wait=False)


def _batch_settings(settings: Settings, largest: int) -> BatchSettings:
    """Return how a model is batched whose network takes `largest` views at most."""
    largest = min(settings.max_batch_size, largest)
    smaller = {size for size in settings.batch_sizes if size < largest}
    return BatchSettings(
        max_batch_size=largest,
        max_queue_delay=settings.max_queue_delay,
        max_queue_size=settings.max_queue_size,
        batch_sizes=(*sorted(smaller), largest) if settings.batch_sizes else (),
    )


def example_batch(manifest: Manifest, size: int) -> NDArray[np.uint8]:
    """Return a batch of noise of the shape that the model takes, or for segmentation of one window's."""
    shape = _fixed_shape(manifest.inputs[0], manifest, size)
    return np.random.default_rng(0).integers(0, 256, shape, np.uint8)


def _fixed_shape(spec: TensorSpec, manifest: Manifest, batch: int) -> tuple[int, ...]:
    """Return the shape of a tensor with a length for each of its open axes."""
    lengths = {"batch": batch}
    if isinstance(manifest, SegmenterManifest):
        side = manifest.preprocessing.window
        lengths |= {"height": side, "width": side, "height/4": side // 4, "width/4": side // 4}
    return tuple(axis if isinstance(axis, int) else lengths[axis] for axis in spec.shape)


class Repository:
    """All served models, by name.

    Args:
        settings: Where the models are, what runs them and how they are batched.
        metrics: Where batches are counted.
        threads: Who gets how many of them.
    """

    def __init__(self, settings: Settings, metrics: Metrics, threads: ThreadPlan) -> None:
        self._settings = settings
        self._metrics = metrics
        self._gate = FairGate(threads.runs_at_once)
        self._chooser = RuntimeChooser(settings.runtime, settings.precision, threads.runtime_threads, settings.cache)
        self._models: dict[str, ServedModel[Any]] = {}

    def __iter__(self) -> Iterator[ServedModel[Any]]:
        return iter(self._models.values())

    def default_name(self, kind: type[Manifest]) -> str | None:
        """Return the name of the model of that kind behind the path without a name; None while there is none.

        It is the one that the settings name, or the first by name.
        """
        names = [model.manifest.name for model in self if isinstance(model.manifest, kind)]
        return self._settings.default_model if self._settings.default_model in names else next(iter(names), None)

    async def load(self) -> None:
        """Load and warm up the highest version of every model in the folder.

        Raises:
            ManifestError: The folder is empty, an artefact is invalid, or a model that the settings name is not there.
            RuntimeLoadError: A runtime refuses a model.
        """
        for folder in find_artefacts(self._settings.repository):
            model = await asyncio.to_thread(self._load_one, folder)
            model.batcher.start()
            self._models[model.manifest.name] = model
        default = self._settings.default_model
        if default is not None and default not in self._models:
            raise ManifestError(f"default model {default!r} is not in {self._settings.repository}: {self._known()}")
        if strangers := sorted(set(self._settings.models) - set(self._models)):
            raise ManifestError(
                f"`models` names {', '.join(strangers)}, not in {self._settings.repository}: {self._known()}"
            )

    def _load_one(self, folder: Path) -> ServedModel[Any]:
        artefact = read_artefact(folder)
        name, version = artefact.manifest.name, artefact.manifest.version
        settings = self._settings.of_model(name)
        batch = _batch_settings(settings, artefact.manifest.max_batch_size)
        examples = [example_batch(artefact.manifest, size) for size in sorted({1, batch.max_batch_size})]
        model: ServedModel[Any] = ServedModel(
            artefact,
            [self._chooser.load(artefact, examples) for _ in range(settings.instances)],
            batch,
            settings.request_timeout,
            self._gate,
            self._metrics.of_model(name),
        )
        model.warm_up()
        logger.info(
            "loaded %s/%s on %s, %s, instances: %d",
            name,
            version,
            model.runtime.name,
            model.runtime.precision,
            settings.instances,
        )
        return model

    def find(self, name: str) -> ServedModel[Any]:
        """Return the model called `name`.

        Raises:
            UnknownModelError: No such model; the message lists the ones there are.
        """
        if name not in self._models:
            raise UnknownModelError(f"no model is called {name!r}; there are {self._known()}")
        return self._models[name]

    def get(self, name: str | None, kind: type[ManifestT]) -> ServedModel[ManifestT]:
        """Return the model called `name` if it does what is asked, or the default one of that kind for None.

        Raises:
            UnknownModelError: No such model; the message lists the ones there are.
            WrongTaskError: It does something else; the message says what, and who does what was asked.
            NotReadyError: Nothing is loaded yet.
        """
        if not self._models:
            raise NotReadyError("no model is loaded yet", retry_after=1)
        chosen = name or self.default_name(kind)
        asked, _ = _DOES[kind]
        able = ", ".join(model.manifest.name for model in self if isinstance(model.manifest, kind)) or "none"
        if chosen is None:
            raise UnknownModelError(f"no model that {asked} is loaded; there are {self._known()}")
        model = self.find(chosen)
        if not isinstance(model.manifest, kind):
            does, path = _DOES[type(model.manifest)]
            raise WrongTaskError(
                f"{chosen} {does} ({model.manifest.task}): POST to /v1/models/{chosen}/{path}. "
                f"Models here of which one {asked}: {able}"
            )
        return model

    def _known(self) -> str:
        return ", ".join(self._models) or "none"

    async def close(self) -> None:
        """Stop all models."""
        await asyncio.gather(*(model.close() for model in self))


def find_artefacts(repository: Path) -> list[Path]:
    """Return the folder of the highest version of every model, sorted by name.

    Raises:
        ManifestError: The folder is missing or holds no artefact.
    """
    newest: dict[str, Path] = {}
    for manifest in repository.glob(f"*/*/{MANIFEST_FILE}"):
        folder = manifest.parent
        if folder.name.isdigit():
            best = newest.get(folder.parent.name)
            if best is None or int(folder.name) > int(best.name):
                newest[folder.parent.name] = folder
    if not newest:
        raise ManifestError(
            f"{repository.absolute()} holds no model (looked for <name>/<version>/{MANIFEST_FILE}): "
            "export one with `clipserve export NAME` or point CLIPSERVE_REPOSITORY elsewhere"
        )
    return [newest[name] for name in sorted(newest)]

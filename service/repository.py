"""The models of a repository folder: found, checked, loaded, warmed up, and run behind a batcher each."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np

from service.batching import Batcher, BatchSettings
from service.errors import ManifestError, NotReadyError, RuntimeLoadError, UnknownModelError
from service.manifest import MANIFEST_FILE, Artefact, Manifest, read_artefact
from service.runtimes.base import Runtime
from service.runtimes.onnx_cpu import OnnxCpuRuntime
from service.settings import Settings

logger = logging.getLogger(__name__)


class ServedModel:
    """One loaded model: its artefact, and a batcher that runs it."""

    def __init__(self, artefact: Artefact, runtime: Runtime, settings: BatchSettings) -> None:
        self.artefact = artefact
        self.runtime = runtime
        # One thread puts the next batch together while the other runs the current one.
        self._executor = ThreadPoolExecutor(2, thread_name_prefix=f"batch-{artefact.manifest.name}")
        self.batcher = Batcher(runtime, self._executor, settings)

    @property
    def manifest(self) -> Manifest:
        """The artefact's manifest."""
        return self.artefact.manifest

    def warm_up(self) -> None:
        """Run every batch size once, so that no request pays for a first time."""
        shape = tuple(axis for axis in self.manifest.inputs[0].shape if axis != "batch")
        for size in range(1, self.batcher.settings.max_batch_size + 1):
            logits = self.runtime.run(np.zeros((size, *shape), np.uint8))
            if logits.shape != (size, self.manifest.num_classes):
                raise RuntimeLoadError(
                    f"{self.manifest.name} answered a batch of {size} with shape {logits.shape}, "
                    f"its manifest says {(size, self.manifest.num_classes)}"
                )

    async def close(self) -> None:
        """Stop the batcher and its threads."""
        await self.batcher.stop()
        self._executor.shutdown(wait=False)


class Repository:
    """All served models, by name.

    Args:
        settings: Where the models are and how they are batched.
        make_runtime: Loads the runtime of an artefact; tests pass one that needs no network.
    """

    def __init__(self, settings: Settings, make_runtime: Callable[[Artefact], Runtime] | None = None) -> None:
        self._settings = settings
        self._make_runtime = make_runtime or (
            lambda artefact: OnnxCpuRuntime(artefact.model_file("fp32"), settings.runtime_threads)
        )
        self._models: dict[str, ServedModel] = {}

    def __iter__(self) -> Iterator[ServedModel]:
        return iter(self._models.values())

    @property
    def default_name(self) -> str | None:
        """Name of the model behind the paths without a name; None while nothing is loaded."""
        return self._settings.default_model or next(iter(self._models), None)

    async def load(self) -> None:
        """Load and warm up the highest version of every model in the folder.

        Raises:
            ManifestError: The folder is empty, an artefact is invalid, or the default model is not among them.
            RuntimeLoadError: A runtime refuses a model.
        """
        for folder in find_artefacts(self._settings.repository):
            model = await asyncio.to_thread(self._load_one, folder)
            model.batcher.start()
            self._models[model.manifest.name] = model
        default = self._settings.default_model
        if default is not None and default not in self._models:
            raise ManifestError(f"default model {default!r} is not in {self._settings.repository}: {self._known()}")

    def _load_one(self, folder: Path) -> ServedModel:
        artefact = read_artefact(folder)
        settings = self._settings
        batch = BatchSettings(
            max_batch_size=min(settings.max_batch_size, artefact.manifest.max_batch_size),
            max_queue_delay=settings.max_queue_delay,
            max_queue_size=settings.max_queue_size,
        )
        model = ServedModel(artefact, self._make_runtime(artefact), batch)
        model.warm_up()
        logger.info("loaded %s/%s on %s", artefact.manifest.name, artefact.manifest.version, model.runtime.name)
        return model

    def get(self, name: str | None) -> ServedModel:
        """Return the model called `name`, or the default one for None.

        Raises:
            UnknownModelError: No such model; the message lists the ones there are.
            NotReadyError: Nothing is loaded yet.
        """
        chosen = name or self.default_name
        if chosen is None:
            raise NotReadyError("no model is loaded yet", retry_after=1)
        if chosen not in self._models:
            raise UnknownModelError(f"no model is called {chosen!r}; there are {self._known()}")
        return self._models[chosen]

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

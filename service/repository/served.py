"""One loaded version of a model, run behind a batcher."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from functools import partial
from typing import Generic, TypeVar, cast

import numpy as np
from numpy.typing import NDArray

from service.batching import Batcher, BatchSettings, Caller
from service.errors import RuntimeLoadError
from service.fairness import FairGate
from service.manifest import Artefact, ClassifierManifest, Manifest, SegmenterManifest, TensorSpec
from service.manifest.parity import LIMITS, parity_error, parity_view
from service.manifest.shapes import shapes_of_views
from service.metrics import ModelMetrics
from service.runtimes.base import OutputName, Runtime
from service.runtimes.options import ViewShape

ManifestT = TypeVar("ManifestT", ClassifierManifest, SegmenterManifest)


class ServedModel(Generic[ManifestT]):
    """One loaded version: its artefact, and a batcher that runs it.

    Args:
        artefact: What is served.
        runtimes: The instances that run it, all of one kind.
        settings: How views are batched.
        request_timeout: Seconds that a request gets.
        gate: Shared by the models that run on the same device.
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
        # It knows the manifest, not this model: what refers to itself is only freed by a collection.
        probe = partial(run_example, artefact.manifest, settings.sizes[0])
        self.batcher = Batcher(runtimes, self._executor, settings, gate, metrics, probe)
        self._users = 0
        self._unused = asyncio.Event()
        self._unused.set()

    @property
    def runtime(self) -> Runtime:
        """The first of its instances."""
        return self._runtimes[0]

    @property
    def manifest(self) -> ManifestT:
        """The artefact's manifest."""
        return cast(ManifestT, self.artefact.manifest)

    @contextmanager
    def in_use(self) -> Iterator[Caller]:
        """Keep the model alive for an accepted request, which the block is, and let it call the batcher."""
        self._users += 1
        self._unused.clear()
        try:
            with self.batcher.caller() as caller:
                yield caller
        finally:
            self._users -= 1
            if not self._users:
                self._unused.set()

    async def retire(self) -> None:
        """Close the model as soon as no accepted request needs it; at once when this is cancelled.

        Whoever calls this has seen to it that no request comes any more.
        """
        try:
            await self._unused.wait()
        finally:
            await self.close()

    async def close(self) -> None:
        """Stop the batcher and its threads."""
        await self.batcher.stop()
        self._executor.shutdown(wait=False)


def check_runtime(manifest: Manifest, sizes: Iterable[int], runtime: Runtime) -> None:
    """Hold what a runtime computes against the manifest; it is warm afterwards, so that no request pays for that.

    Args:
        manifest: Of the model.
        sizes: Of the batches that are run.
        runtime: What runs the model.

    Raises:
        RuntimeLoadError: It cannot run such a batch, or the outputs are not what the manifest promises.
    """
    check_parity(manifest, runtime)
    for size in sizes:
        with _batch_of(size, manifest, runtime):
            run_example(manifest, size, runtime)


@contextmanager
def _batch_of(size: int, manifest: Manifest, runtime: Runtime) -> Iterator[None]:
    """Name what the block was to run, if it fails."""
    try:
        yield
    except RuntimeLoadError:
        raise
    except Exception as error:
        # What runtimes raise has no common base below Exception.
        raise RuntimeLoadError(
            f"{runtime.name} cannot run a batch of {size} of {manifest.full_name}: {' '.join(str(error).split())}; "
            "the batch axis of a model file must be open, and its views as the manifest says (docs/artefact.md)"
        ) from error


def check_parity(manifest: Manifest, runtime: Runtime) -> None:
    """Compare what a runtime makes of the parity view with what torch said of it, if the manifest has that.

    Raises:
        RuntimeLoadError: It is something else, or the view cannot be run.
    """
    if manifest.parity is None:
        return
    view = parity_view(_fixed_shape(manifest.inputs[0], manifest, 1)[1:])
    with _batch_of(1, manifest, runtime):
        logits = runtime.run(view[None], "logits")[0]
    error, limit = parity_error(logits, manifest.parity), LIMITS[runtime.precision]
    # Not a number is no less than any limit either.
    if not error < limit:
        raise RuntimeLoadError(
            f"{manifest.full_name} in {runtime.precision} on {runtime.name} is not the network that "
            f"was exported: its logits differ from torch's by a relative {error:.2g}, and the limit is {limit:g}; "
            "choose another runtime or precision, or export it again"
        )


def run_example(manifest: Manifest, size: int, runtime: Runtime) -> None:
    """Run a batch of noise once for each output.

    Raises:
        RuntimeLoadError: An output has not the shape that the manifest promises.
    """
    frames = example_batch(manifest, size)
    for output in manifest.outputs:
        expected = _fixed_shape(output, manifest, size)
        shape = runtime.run(frames, cast(OutputName, output.name)).shape
        if shape != expected:
            raise RuntimeLoadError(
                f"{manifest.name} answered a batch of {size} with {output.name} of shape {shape}, "
                f"its manifest says {expected}"
            )


def example_batch(manifest: Manifest, size: int) -> NDArray[np.uint8]:
    """Return a batch of noise of the shape that the model takes, or for segmentation of one window's."""
    shape = _fixed_shape(manifest.inputs[0], manifest, size)
    return np.random.default_rng(0).integers(0, 256, shape, np.uint8)


def view_shapes(manifest: Manifest) -> tuple[ViewShape, ViewShape, ViewShape]:
    """Return the smallest, the usual and the largest shape of a view."""
    _, *usual = _fixed_shape(manifest.inputs[0], manifest, 1)
    long_side = manifest.preprocessing.max_long_side if isinstance(manifest, SegmenterManifest) else None
    return shapes_of_views(tuple(usual), long_side)


def _fixed_shape(spec: TensorSpec, manifest: Manifest, batch: int) -> tuple[int, ...]:
    """Return the shape of a tensor with a length for each of its open axes."""
    lengths = {"batch": batch}
    if isinstance(manifest, SegmenterManifest):
        side = manifest.preprocessing.window
        lengths |= {"height": side, "width": side, "height/4": side // 4, "width/4": side // 4}
    return tuple(axis if isinstance(axis, int) else lengths[axis] for axis in spec.shape)

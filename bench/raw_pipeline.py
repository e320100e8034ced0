"""The work of a request without a server: decode an upload in memory, run the network, name the best classes."""

from __future__ import annotations

import io
import time
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path
from statistics import median
from types import TracebackType

import cv2
import numpy as np
from numpy.typing import NDArray

from service.manifest import Artefact, ClassifierManifest, read_artefact
from service.media.decoding import decode_views
from service.media.types import DecodeRequest
from service.outputs.classification import combine_views, top_k
from service.pipeline import decode_limits
from service.runtimes.kinds import CPU_KINDS
from service.settings import Settings


class RawPipeline:
    """Takes uploads to labels in this process.

    Args:
        folder: Artefact folder of a classifier.
        settings: Of the server that it is compared with, for that model.
        threads: Of a run of the network.

    Raises:
        RuntimeLoadError, ManifestError: As in a server with these settings.
    """

    def __init__(self, folder: Path, settings: Settings, threads: int) -> None:
        self._artefact: Artefact = read_artefact(folder)
        manifest = self._artefact.manifest
        assert isinstance(manifest, ClassifierManifest)
        self._manifest: ClassifierManifest = manifest
        precision = settings.precision
        self._runtime = CPU_KINDS[settings.runtime].open(self._artefact.model_file(precision), precision, threads)
        self._request = DecodeRequest(
            preprocessing=manifest.preprocessing,
            sampling=manifest.sampling,
            views=manifest.views,
            limits=decode_limits(settings),
            start=None,
            end=None,
        )
        # As in a decode worker: the parallelism is the number of processes.
        cv2.setNumThreads(1)

    def run(self, upload: bytes) -> None:
        """Do all that a request asks for but the transfer."""
        frames: list[NDArray[np.uint8]] = []

        def allocate(shape: tuple[int, ...]) -> NDArray[np.uint8]:
            frames.append(np.empty(shape, np.uint8))
            return frames[-1]

        decode_views(io.BytesIO(upload), self._request, allocate)
        logits = self._runtime.run(frames[-1], "logits")
        scores = combine_views(logits, self._manifest.views.combine, self._manifest.multi_label)
        top_k(scores, self._artefact.labels, 5)

    def seconds(self, upload: bytes, times: int) -> float:
        """Return the median time of an upload, seconds."""
        return median(self._timed(upload) for _ in range(times))

    def _timed(self, upload: bytes) -> float:
        began = time.perf_counter()
        self.run(upload)
        return time.perf_counter() - began

    def rate(self, upload: bytes, seconds: float) -> float:
        """Return the uploads a second that are done in about `seconds`."""
        done, began = 0, time.perf_counter()
        while (elapsed := time.perf_counter() - began) < seconds:
            self.run(upload)
            done += 1
        return done / elapsed


_pipeline: RawPipeline


def _load(folder: Path, settings: Settings) -> None:
    global _pipeline
    _pipeline = RawPipeline(folder, settings, threads=1)


def _rate(upload: bytes, seconds: float) -> float:
    return _pipeline.rate(upload, seconds)


class RawProcesses:
    """A process a core, each with a pipeline of one thread; a context manager.

    Args:
        folder, settings: As for RawPipeline.
        processes: How many.
    """

    def __init__(self, folder: Path, settings: Settings, processes: int) -> None:
        self._count = processes
        self._pool = ProcessPoolExecutor(processes, get_context("spawn"), _load, (folder, settings))

    def __enter__(self) -> RawProcesses:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._pool.shutdown()

    def rate(self, upload: bytes, seconds: float) -> float:
        """Return the uploads a second that all of them do together."""
        running = [self._pool.submit(_rate, upload, seconds) for _ in range(self._count)]
        return sum(process.result() for process in running)

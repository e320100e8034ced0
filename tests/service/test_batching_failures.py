"""A model whose runtime fails at every run, as after some errors of a GPU, refuses until the runtime has recovered."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from service import instance
from service.batching import BatchSettings
from service.errors import InternalError, NotReadyError
from service.fairness import FairGate
from service.manifest import ClassifierManifest, PrecisionName, read_artefact
from service.metrics import Metrics
from service.repository.served import ServedModel
from service.runtimes.base import OutputName
from tests.classifier import CLASSES, SIDE, write_classifier
from tests.waiting import until

UNREADABLE = 255


class BreakableRuntime:
    """Answers each view with zeros; fails at views of `UNREADABLE`, and at all while it is broken."""

    name = "breakable"
    precision: PrecisionName = "fp32"

    def __init__(self) -> None:
        self.broken = False
        self.runs = 0

    def run(self, frames: NDArray[np.uint8], output: OutputName) -> NDArray[np.float32]:
        assert output == "logits"
        self.runs += 1
        if self.broken or (frames == UNREADABLE).all(axis=(1, 2, 3)).any():
            raise RuntimeError("an illegal memory access was encountered")
        return np.zeros((len(frames), CLASSES), np.float32)


@asynccontextmanager
async def serving(folder: Path, *runtimes: BreakableRuntime) -> AsyncIterator[ServedModel[ClassifierManifest]]:
    artefact = read_artefact(write_classifier(folder, "breakable", 1))
    settings = BatchSettings(max_batch_size=4, max_queue_delay=0.0, max_queue_size=100)
    gate = FairGate(len(runtimes))
    model: ServedModel[ClassifierManifest] = ServedModel(
        artefact, runtimes, settings, 60.0, gate, Metrics().of_model("breakable")
    )
    model.batcher.start()
    try:
        async with asyncio.timeout(60):
            yield model
    finally:
        await model.close()


def views(count: int, brightness: int = 0) -> NDArray[np.uint8]:
    return np.full((count, SIDE, SIDE, 3), brightness, np.uint8)


def test_model_whose_runs_all_fail_refuses_until_its_runtime_has_recovered(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(instance, "PROBE_SECONDS", 0.1)

    async def scenario() -> None:
        runtime = BreakableRuntime()
        async with serving(tmp_path, runtime) as model:
            await model.batcher.submit(views(1))
            runtime.broken = True
            failed = asyncio.create_task(model.batcher.submit(views(4)))
            # These wait for a run that will not come.
            behind = asyncio.create_task(model.batcher.submit(views(3)))
            with pytest.raises(InternalError, match="illegal memory access"):
                await failed
            with pytest.raises(NotReadyError, match="breakable takes no requests: its runs fail"):
                await behind
            assert "its runs fail" in model.batcher.problem
            with pytest.raises(NotReadyError) as refused:
                model.batcher.check_running()
            assert refused.value.retry_after
            runtime.broken = False
            await until(lambda: not model.batcher.problem)
            assert len(await model.batcher.submit(views(5))) == 5

    asyncio.run(scenario())


def test_requests_that_fail_by_their_own_views_keep_nobody_else_from_the_model(tmp_path: Path) -> None:
    async def scenario() -> None:
        runtime = BreakableRuntime()
        async with serving(tmp_path, runtime) as model:
            for _ in range(3):
                with pytest.raises(InternalError):
                    await model.batcher.submit(views(4, UNREADABLE))
                assert len(await model.batcher.submit(views(1))) == 1
                assert model.batcher.problem == ""

    asyncio.run(scenario())


def test_instance_beside_one_that_fails_takes_all_requests(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(instance, "PROBE_SECONDS", 3600.0)

    async def scenario() -> None:
        broken, sound = BreakableRuntime(), BreakableRuntime()
        broken.broken = True
        async with serving(tmp_path, broken, sound) as model:
            while not model.batcher.problem:
                await asyncio.gather(*(model.batcher.submit(views(4)) for _ in range(4)), return_exceptions=True)
            runs = broken.runs
            for _ in range(10):
                assert len(await model.batcher.submit(views(2))) == 2
            assert (broken.runs, model.batcher.queue_depth) == (runs, 0)

    asyncio.run(scenario())

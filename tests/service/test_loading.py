"""Loading a version in a thread of its own: what goes wrong there reaches whoever waits for it."""

import asyncio
import logging
from pathlib import Path

import pytest

from service.errors import RuntimeLoadError
from service.machine import plan_threads
from service.metrics import Metrics
from service.repository import loading
from service.settings import Settings


def test_stop_iteration_within_a_load_is_a_failure_of_the_load(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def read_artefact(folder: Path) -> None:
        next(iter(()))

    async def load() -> None:
        loader = loading.Loader(Settings(repository=tmp_path), Metrics(), plan_threads(1, 1, 1))
        await asyncio.wait_for(loader.load(tmp_path / "m/1"), 10)

    monkeypatch.setattr(loading, "read_artefact", read_artefact)
    with pytest.raises(RuntimeLoadError, match="StopIteration; the server's log has more"):
        asyncio.run(load())
    (line,) = [record for record in caplog.records if record.levelno == logging.ERROR]
    assert "m/1" in line.getMessage()
    assert line.exc_info
    assert line.exc_info[0] is StopIteration

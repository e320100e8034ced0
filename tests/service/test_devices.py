"""Models on different devices: none waits for a run on a device that it does not use."""

import io
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from threading import Event
from typing import Any

import httpx
import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from service.app import create_app
from service.runtimes import kinds
from service.runtimes.base import OutputName, Runtime
from service.settings import Settings
from tests.classifier import SIDE, write_classifier
from tests.server import running

MODELS = {"on_cpu": 1, "on_gpu": 2, "beside": 3}


class SlowGpu:
    """Runs a network on the CPU under the name of a GPU's runtime, and from some time on for as long as it is told."""

    name = "cuda"
    precision = "fp32"

    def __init__(self, runtime: Runtime, at_work: Event, may_end: Event) -> None:
        self._runtime, self._at_work, self._may_end = runtime, at_work, may_end

    def run(self, frames: NDArray[np.uint8], output: OutputName) -> NDArray[Any]:
        # What the model is warmed up with is noise.
        if not frames.any():
            self._at_work.set()
            assert self._may_end.wait(30)
        return self._runtime.run(frames, output)


@pytest.fixture
def gpu(monkeypatch: pytest.MonkeyPatch) -> Iterator[tuple[Event, Event]]:
    """What tells that the GPU runs a black picture, and what lets it end."""
    at_work, may_end = Event(), Event()
    cpu = kinds.CPU_KINDS["onnxruntime"]
    kind = replace(cpu, device=kinds.GPU, load=lambda file, *rest: SlowGpu(cpu.load(file, *rest), at_work, may_end))
    monkeypatch.setattr(kinds, "find_gpu", lambda: None)
    monkeypatch.setitem(kinds.KINDS, "cuda", kind)
    yield at_work, may_end
    may_end.set()


def test_model_on_the_cpu_does_not_wait_for_a_run_on_the_gpu(tmp_path: Path, gpu: tuple[Event, Event]) -> None:
    at_work, may_end = gpu
    for name, version in MODELS.items():
        write_classifier(tmp_path, name, version)
    settings = Settings(
        repository=tmp_path,
        versions="all",
        decode_workers=2,
        models={"on_gpu": {"runtime": "cuda"}, "beside": {"runtime": "cuda"}},
    )
    buffer = io.BytesIO()
    Image.new("RGB", (SIDE, SIDE)).save(buffer, "PNG")

    def ask(name: str, seconds: float = 30) -> str:
        answer = httpx.post(f"{url}/v1/models/{name}/classify", content=buffer.getvalue(), timeout=seconds)
        label: str = answer.json()["predictions"][0]["label"]
        return label

    with running(create_app(settings), settings) as url, ThreadPoolExecutor(2) as clients:
        first = clients.submit(ask, "on_gpu")
        assert at_work.wait(20)
        at_work.clear()
        assert ask("on_cpu") == "class 1"
        # The GPU runs one batch after the other, whoever's it is.
        second = clients.submit(ask, "beside")
        assert not at_work.wait(1)
        assert ask("on_cpu") == "class 1"
        may_end.set()
        assert (first.result(), second.result()) == ("class 2", "class 3")

"""On a GPU: torch, torch.compile, ONNX Runtime and TensorRT answer as ONNX Runtime does on the CPU in float32."""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from bench.gpu import NETWORKS, files_of, gpu_runtime, torch_runner
from export.verification import ACCEPTANCE, verification_inputs
from service.manifest import PrecisionName
from service.runtimes.kinds import CPU_KINDS
from tests.server import ROOT, serving

pytestmark = [pytest.mark.gpu, pytest.mark.timeout(1800)]

PRECISIONS: tuple[PrecisionName, ...] = ("fp32", "fp16", "bf16")
Run = Callable[[NDArray[np.uint8]], NDArray[Any]]


def relative_error(actual: NDArray[Any], wanted: NDArray[Any]) -> float:
    spread = np.linalg.norm(wanted - wanted.mean(axis=1, keepdims=True), axis=1)
    return float((np.linalg.norm(actual - wanted, axis=1) / spread).max())


@pytest.fixture(scope="module", params=NETWORKS)
def files(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> dict[PrecisionName, Path]:
    torch.manual_seed(0)
    folder: Path = tmp_path_factory.mktemp("files") / request.param
    folder.mkdir()
    return files_of(request.param, PRECISIONS, folder)


@pytest.fixture(scope="module")
def expected(files: dict[PrecisionName, Path]) -> tuple[NDArray[np.uint8], NDArray[Any]]:
    """Views, and what the CPU makes of them."""
    runtime = CPU_KINDS["onnxruntime"].open(files["fp32"], "fp32", 0)
    views = verification_inputs(files_view(files["fp32"]), 5)
    return views, runtime.run(views, "logits")


def files_view(file: Path) -> tuple[int, ...]:
    import onnxruntime as ort

    session = ort.InferenceSession(file, providers=["CPUExecutionProvider"])
    return tuple(session.get_inputs()[0].shape[1:])


@pytest.mark.parametrize("precision", PRECISIONS)
@pytest.mark.parametrize("is_compiled", [False, True])
def test_torch_answers_alike(
    files: dict[PrecisionName, Path],
    expected: tuple[NDArray[np.uint8], NDArray[Any]],
    precision: PrecisionName,
    is_compiled: bool,
) -> None:
    views, wanted = expected
    torch.compiler.reset()
    run = torch_runner(files["fp32"].parent.name, precision, is_compiled, views)
    assert relative_error(run(views), wanted) < ACCEPTANCE[precision].relative_error


@pytest.mark.parametrize("precision", PRECISIONS)
@pytest.mark.parametrize("runtime", ["cuda", "tensorrt"])
def test_runtime_answers_alike(
    files: dict[PrecisionName, Path],
    expected: tuple[NDArray[np.uint8], NDArray[Any]],
    runtime: str,
    precision: PrecisionName,
    tmp_path: Path,
) -> None:
    if runtime == "tensorrt" and find_spec("tensorrt") is None:
        pytest.skip("TensorRT is not installed")
    views, wanted = expected
    loaded = gpu_runtime(runtime, files[precision], precision, (1, 2, 4), tmp_path)
    # In parts of 4 and 1, one and the same view twice, and from several threads.
    assert relative_error(loaded.run(views, "logits"), wanted) < ACCEPTANCE[precision].relative_error
    with ThreadPoolExecutor(4) as threads:
        answers = list(threads.map(lambda start: loaded.run(views[start : start + 2], "logits"), [0, 1, 2, 3] * 4))
    for start, answer in zip([0, 1, 2, 3] * 4, answers, strict=True):
        assert relative_error(answer, wanted[start : start + 2]) < ACCEPTANCE[precision].relative_error


def test_server_classifies_on_the_gpu(tmp_path: Path) -> None:
    with serving(tmp_path, runtime="cuda", gpu_memory_bytes=4 << 30) as server:
        (runtime,) = {model["runtime"] for model in httpx.get(f"{server.url}/v1/models").json()["models"]}
        assert runtime == "onnxruntime-cuda"
        clip = (ROOT / "demo/media/sample.mp4").read_bytes()
        answer = httpx.post(f"{server.url}/v1/classify", content=clip, timeout=60).json()
        assert answer["predictions"][0]["label"] == "rotating clockwise"

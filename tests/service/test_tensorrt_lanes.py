"""What runs an engine, on a stand-in for GPU and TensorRT that works in this machine's memory.

The stand-in writes past no memory that it was given, takes no shape outside its profile, and complains as TensorRT
does: to the logger, with a bare False for the caller.
"""

import ctypes
import sys
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from service.manifest.shapes import roomiest_view, shapes_of_views
from service.runtimes.gpu import Gpu, GpuError
from service.runtimes.options import GpuOptions
from service.runtimes.tensorrt import engine, engines
from service.runtimes.tensorrt.api import Log
from service.runtimes.tensorrt.engine import TensorRtRuntime

CLASSES = 150
SHORT_SIDE, MAX_LONG_SIDE = 512, 2048
SIZES = (1, 2)


class Memory:
    """Takes the place of memory of the GPU and of pinned memory."""

    taken = 0
    sizes: dict[int, int] = {}  # noqa: RUF012

    def __init__(self, size: int) -> None:
        self.array = np.empty(size, np.uint8)
        self.address = self.array.ctypes.data
        Memory.taken += size
        Memory.sizes[self.address] = size

    def view(self, shape: Sequence[int], dtype: Any) -> NDArray[Any]:
        size = int(np.prod(shape)) * np.dtype(dtype).itemsize
        return self.array[:size].view(dtype).reshape(tuple(shape))


class Stream:
    handle = 1

    def to_device(self, target: Memory, source: Memory, size: int) -> None:
        assert size <= min(len(target.array), len(source.array))
        target.array[:size] = source.array[:size]

    to_host = to_device

    def wait(self) -> None: ...


class Context:
    """Answers with the mean of each pixel as its mask, and with zeros as its logits."""

    def __init__(self, trt: "TensorRt") -> None:
        self.trt = trt
        self.addresses: dict[str, int] = {}

    def set_optimization_profile_async(self, profile_index: int, stream_handle: int) -> bool:
        self.size = SIZES[profile_index]
        return True

    def set_input_shape(self, name: str, shape: tuple[int, ...]) -> bool:
        fits = shape[0] == self.size and 64 <= min(shape[1:3]) <= max(shape[1:3]) <= MAX_LONG_SIDE
        if fits:
            self.shape = shape
        return fits or self.trt.complain(f"{shape} is outside of profile {self.size}")

    def get_tensor_shape(self, name: str) -> tuple[int, ...]:
        batch, height, width, _ = self.shape
        return (batch, height, width) if name == "mask" else (batch, CLASSES, height // 4, width // 4)

    def set_tensor_address(self, name: str, memory: int) -> bool:
        self.addresses[name] = memory
        return True

    def execute_async_v3(self, stream_handle: int) -> bool:
        if self.trt.is_broken:
            return self.trt.complain("an illegal memory access was encountered")
        for name in ("mask", "logits"):
            size = int(np.prod(self.get_tensor_shape(name))) * (1 if name == "mask" else 4)
            assert size <= Memory.sizes[self.addresses[name]]
        pixels = self.at("frames", self.shape)
        self.at("mask", self.shape[:3])[:] = pixels.mean(axis=3)
        return True

    def at(self, name: str, shape: tuple[int, ...]) -> NDArray[np.uint8]:
        memory = (ctypes.c_uint8 * int(np.prod(shape))).from_address(self.addresses[name])
        return np.ctypeslib.as_array(memory).reshape(shape)


class TensorRt:
    """The module, its runtime and its engine in one."""

    __version__ = "1"
    TensorIOMode = SimpleNamespace(INPUT="input")
    ExecutionContextAllocationStrategy = SimpleNamespace(ON_PROFILE_CHANGE=0)
    num_io_tensors = 3

    class ILogger:
        Severity = SimpleNamespace(INTERNAL_ERROR=0, ERROR=1)

    def __init__(self) -> None:
        self.is_broken = False
        self.has_room = True

    def Runtime(self, logger: Any) -> "TensorRt":  # noqa: N802
        self.logger = logger
        return self

    def complain(self, words: str) -> bool:
        self.logger.log(self.ILogger.Severity.ERROR, words)
        return False

    def deserialize_cuda_engine(self, plan: bytes) -> "TensorRt":
        assert plan == b"an engine"
        return self

    def get_tensor_name(self, index: int) -> str:
        return ("frames", "mask", "logits")[index]

    def get_tensor_mode(self, name: str) -> str:
        return "input" if name == "frames" else "output"

    def get_tensor_dtype(self, name: str) -> str:
        return name

    def nptype(self, trt_type: str) -> type[Any]:
        return np.uint8 if trt_type == "mask" else np.float32

    def create_execution_context(self, strategy: int) -> Context | None:
        if self.has_room:
            return Context(self)
        self.complain("out of memory")
        return None


@pytest.fixture
def trt(monkeypatch: pytest.MonkeyPatch) -> TensorRt:
    made = TensorRt()
    monkeypatch.setattr(Memory, "taken", 0)
    for name, value in {
        "DeviceMemory": Memory,
        "Pinned": Memory,
        "Stream": Stream,
        "find_gpu": lambda: Gpu("NVIDIA Something", "8.9", "580.1"),
        "load_bindings": lambda _: made,
    }.items():
        monkeypatch.setattr(engine, name, value)
    monkeypatch.setattr(engines, "build_elsewhere", lambda *_, **__: b"an engine")
    return made


def segmenter(folder: Path) -> TensorRtRuntime:
    (folder / "model.onnx").write_bytes(b"a model")
    views = shapes_of_views((512, 512, 3), MAX_LONG_SIDE)
    options = GpuOptions(SIZES, views, 0, folder, roomiest_view(SHORT_SIDE, MAX_LONG_SIDE))
    return TensorRtRuntime("tensorrt", folder / "model.onnx", "fp32", options)


def pictures(*shape: int) -> NDArray[np.uint8]:
    return np.random.default_rng(0).integers(0, 256, (*shape, 3), np.uint8)


@pytest.mark.parametrize("shape", [(1, 512, 2048), (2, 2048, 512), (3, 1024, 1024), (2, 64, 2048), (1, 64, 64)])
def test_pictures_of_every_shape_that_the_model_takes_at_once_find_room(
    trt: TensorRt, tmp_path: Path, shape: tuple[int, ...]
) -> None:
    runtime = segmenter(tmp_path)
    frames = pictures(*shape)
    expected = (frames.astype(int).sum(axis=3) // 3).astype(np.uint8)
    assert np.array_equal(runtime.run(frames, "mask"), expected)
    assert runtime.run(frames, "logits").shape == (shape[0], CLASSES, shape[1] // 4, shape[2] // 4)


def test_no_more_memory_is_taken_than_the_largest_picture_needs(trt: TensorRt, tmp_path: Path) -> None:
    segmenter(tmp_path)
    # RGB, mask, and float32 logits a sixteenth of the pixels each; on the host and on the GPU.
    view = 512 * 2048 * (3 + 1) + 4 * CLASSES * (512 // 4) * (2048 // 4)
    assert Memory.taken == 2 * sum(SIZES) * view


def test_tensorrts_own_words_are_passed_on_once(trt: TensorRt, tmp_path: Path) -> None:
    runtime = segmenter(tmp_path)
    with pytest.raises(GpuError, match=r"did not take views of shape .* \(1, 32, 32, 3\) is outside of profile 1$"):
        runtime.run(pictures(1, 32, 32), "mask")
    trt.is_broken = True
    for _ in range(2):
        with pytest.raises(GpuError, match=r"did not run \(batches of 2\): an illegal memory access was encountered$"):
            runtime.run(pictures(2, 64, 64), "mask")


def test_complaints_that_nobody_asks_for_do_not_pile_up(trt: TensorRt, tmp_path: Path) -> None:
    runtime = segmenter(tmp_path)
    for number in range(1000):
        trt.complain(f"complaint {number:04}")
    trt.is_broken = True
    with pytest.raises(GpuError, match="complaint 0999; an illegal memory access") as caught:
        runtime.run(pictures(1, 64, 64), "mask")
    assert len(str(caught.value)) < 2100


def test_context_that_is_not_made_is_told_with_the_reason(trt: TensorRt, tmp_path: Path) -> None:
    trt.has_room = False
    with pytest.raises(GpuError, match=r"did not make a context \(batches of 1\): out of memory"):
        segmenter(tmp_path)


def test_lanes_that_fail_at_the_same_time_each_get_an_answer(trt: Any) -> None:
    """What one of them asks for, another one may just have taken."""
    log = Log(trt)

    def fail(_: int) -> None:
        for _ in range(5000):
            for _ in range(20):
                log.logger.log(trt.ILogger.Severity.ERROR, "out of memory")
            assert set(log.take().split("; ")) <= {"out of memory", "no reason given"}

    interval = sys.getswitchinterval()
    # Between any two steps of one thread another may go on.
    sys.setswitchinterval(1e-6)
    try:
        with ThreadPoolExecutor(4) as threads:
            list(threads.map(fail, range(4)))
    finally:
        sys.setswitchinterval(interval)

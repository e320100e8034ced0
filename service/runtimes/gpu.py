"""One NVIDIA GPU: whether it is there, and memory, copies, streams and captured graphs on it.

Nothing here has been run on a GPU by its authors; docs/gpu.md says what has.
"""

from __future__ import annotations

import ctypes
import re
import weakref
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import DTypeLike, NDArray

from service.errors import RuntimeLoadError
from service.runtimes.packages import gpu_cure

_DRIVER = Path("/proc/driver/nvidia/version")
DEVICE = 0


class GpuError(Exception):
    """A call of the CUDA runtime failed."""


@dataclass(frozen=True)
class Gpu:
    """What a compiled network depends on.

    Attributes:
        name: The GPU's.
        compute_capability: Of the form "9.0".
        driver: Version of the driver.
    """

    name: str
    compute_capability: str
    driver: str


def driver_version() -> str | None:
    """Return the version of the NVIDIA driver; None where there is none."""
    try:
        found = re.search(r"\b\d+\.\d+(\.\d+)?\b", _DRIVER.read_text())
    except OSError:
        return None
    return found[0] if found else None


def find_gpu() -> Gpu:
    """Return the GPU that would be used, the first that CUDA_VISIBLE_DEVICES leaves.

    Raises:
        RuntimeLoadError: There is no driver, no GPU, or not the package that talks to it; with what to do.
    """
    try:
        from cuda.bindings import runtime as cuda
    except ImportError as error:
        raise RuntimeLoadError(f"cuda-bindings cannot be imported ({error}): {gpu_cure()}") from error
    try:
        # Libraries that need a GPU may crash where there is no driver, so this comes before them.
        if not _call(cuda.cudaDriverGetVersion):
            raise RuntimeLoadError(
                "there is no NVIDIA driver on this machine: install it, start the container with --gpus all, or choose "
                "a runtime of the CPU (onnxruntime, openvino)"
            )
        if not _call(cuda.cudaGetDeviceCount):
            raise RuntimeLoadError("the NVIDIA driver shows no GPU: see CUDA_VISIBLE_DEVICES and nvidia-smi")
        properties = _call(cuda.cudaGetDeviceProperties, DEVICE)
        driver = driver_version() or f"CUDA {_call(cuda.cudaDriverGetVersion)}"
    except GpuError as error:
        raise RuntimeLoadError(f"the NVIDIA GPU cannot be used: {error}") from error
    return Gpu(properties.name.decode().rstrip("\0"), f"{properties.major}.{properties.minor}", driver)


def _call(function: Callable[..., tuple[Any, ...]], *arguments: Any) -> Any:
    """Call a function of the CUDA runtime and return its result.

    Raises:
        GpuError: It failed.
    """
    from cuda.bindings import runtime as cuda

    error, *results = function(*arguments)
    if error != cuda.cudaError_t.cudaSuccess:
        _, text = cuda.cudaGetErrorString(error)
        raise GpuError(f"{function.__name__}: {text.decode()}")
    return results[0] if results else None


class Pinned:
    """Host memory that the GPU copies from and to by itself.

    Attributes:
        address: Where it lies.
        array: The memory, uint8 (bytes,).
    """

    def __init__(self, size: int) -> None:
        from cuda.bindings import runtime as cuda

        self.address = int(_call(cuda.cudaHostAlloc, size, cuda.cudaHostAllocDefault))
        self.array: NDArray[np.uint8] = np.ctypeslib.as_array((ctypes.c_uint8 * size).from_address(self.address))
        weakref.finalize(self, cuda.cudaFreeHost, self.address)

    def view(self, shape: Sequence[int], dtype: DTypeLike) -> NDArray[Any]:
        """Return the first bytes as an array of that shape."""
        size = int(np.prod(shape)) * np.dtype(dtype).itemsize
        return self.array[:size].view(dtype).reshape(tuple(shape))


class DeviceMemory:
    """Memory of the GPU.

    Attributes:
        address: Where it lies.
    """

    def __init__(self, size: int) -> None:
        from cuda.bindings import runtime as cuda

        self.address = int(_call(cuda.cudaMalloc, size))
        weakref.finalize(self, cuda.cudaFree, self.address)


class Stream:
    """Work of the GPU that is done in the order in which it is given.

    Attributes:
        handle: For libraries that give work to it.
    """

    def __init__(self) -> None:
        from cuda.bindings import runtime as cuda

        self.handle = int(_call(cuda.cudaStreamCreateWithFlags, cuda.cudaStreamNonBlocking))
        weakref.finalize(self, cuda.cudaStreamDestroy, self.handle)

    def to_device(self, target: DeviceMemory, source: Pinned, size: int) -> None:
        """Copy the first `size` bytes."""
        from cuda.bindings import runtime as cuda

        kind = cuda.cudaMemcpyKind.cudaMemcpyHostToDevice
        _call(cuda.cudaMemcpyAsync, target.address, source.address, size, kind, self.handle)

    def to_host(self, target: Pinned, source: DeviceMemory, size: int) -> None:
        """Copy the first `size` bytes."""
        from cuda.bindings import runtime as cuda

        kind = cuda.cudaMemcpyKind.cudaMemcpyDeviceToHost
        _call(cuda.cudaMemcpyAsync, target.address, source.address, size, kind, self.handle)

    def wait(self) -> None:
        """Return when everything is done."""
        from cuda.bindings import runtime as cuda

        _call(cuda.cudaStreamSynchronize, self.handle)

    def captured(self, work: Callable[[], None]) -> Graph:
        """Return what `work` gives to the stream as one piece; nothing of it is done yet.

        Raises:
            GpuError: It cannot be captured.
        """
        from cuda.bindings import runtime as cuda

        # Of this thread alone: others may allocate memory meanwhile.
        mode = cuda.cudaStreamCaptureMode.cudaStreamCaptureModeThreadLocal
        _call(cuda.cudaStreamBeginCapture, self.handle, mode)
        try:
            work()
        finally:
            # Also after a failure: the stream could not be used again otherwise.
            graph = _call(cuda.cudaStreamEndCapture, self.handle)
        try:
            return Graph(_call(cuda.cudaGraphInstantiate, graph, 0), self)
        finally:
            cuda.cudaGraphDestroy(graph)


class Graph:
    """Work that was captured: one call starts it all, on the memory that it was captured with."""

    def __init__(self, executable: Any, stream: Stream) -> None:
        from cuda.bindings import runtime as cuda

        self._executable = executable
        weakref.finalize(self, cuda.cudaGraphExecDestroy, executable)
        self._stream = stream

    def launch(self) -> None:
        """Give the work to the stream."""
        from cuda.bindings import runtime as cuda

        _call(cuda.cudaGraphLaunch, self._executable, self._stream.handle)

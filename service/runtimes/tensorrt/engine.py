"""TensorRT on a GPU."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from threading import Lock
from typing import Any

import numpy as np
from numpy.typing import NDArray

from service.errors import RuntimeLoadError
from service.manifest import PrecisionName
from service.runtimes.base import OutputName
from service.runtimes.buckets import run_in_buckets
from service.runtimes.gpu import DeviceMemory, GpuError, Graph, Pinned, Stream, find_gpu
from service.runtimes.options import GpuOptions
from service.runtimes.tensorrt.api import BindingsName, ICudaEngine, IExecutionContext, Log, Module, load_bindings
from service.runtimes.tensorrt.building import BuildRequest, Profiles
from service.runtimes.tensorrt.engines import find_engine
from service.runtimes.tensorrt.store import EngineStore

logger = logging.getLogger(__name__)


class TensorRtRuntime:
    """An engine with an execution context for each batch size.

    Args:
        bindings: Which TensorRT.
        model_file: The exported .onnx file.
        precision: That of the file.
        options: Batch sizes, views, memory and the folder for engines.

    Raises:
        RuntimeLoadError: There is no GPU, or TensorRT refuses the file or the GPU.
        ImportError: TensorRT is not installed.
    """

    def __init__(self, bindings: BindingsName, model_file: Path, precision: PrecisionName, options: GpuOptions) -> None:
        self.name = f"{bindings.replace('_', '-')}-gpu"
        self.precision = precision
        gpu = find_gpu()
        trt = load_bindings(bindings)
        profiles = Profiles(options.batch_sizes, *options.views)
        request = BuildRequest(model_file, precision, profiles, options.memory_bytes)
        log = Log(trt)
        self._runtime = trt.Runtime(log.logger)

        def load(plan: bytes) -> ICudaEngine:
            engine = self._runtime.deserialize_cuda_engine(plan)
            if engine is None:
                raise RuntimeLoadError(f"{bindings} does not load its engine of {model_file}: {log.take()}")
            return engine

        engine = find_engine(bindings, trt.__version__, request, gpu, EngineStore(options.cache / "engines"), load)
        roomiest = options.roomiest or profiles.largest
        # A graph holds for the shapes that it was captured with.
        has_fixed_views = profiles.smallest == profiles.largest
        self._lanes = {
            size: _Lane(trt, log, engine, index, (size, *roomiest), has_fixed_views)
            for index, size in enumerate(profiles.batch_sizes)
        }
        self._sizes = profiles.batch_sizes

    def run(self, frames: NDArray[np.uint8], output: OutputName) -> NDArray[Any]:
        """Return one of the network's outputs; see Runtime."""
        return run_in_buckets(frames, self._sizes, lambda part, size: self._lanes[size].run(part, output))


@dataclass(frozen=True)
class _Output:
    """Where an output of the roomiest batch finds room, on the GPU and on the host."""

    dtype: np.dtype[Any]
    device: DeviceMemory
    host: Pinned


class _Lane:
    """One batch size: its context, stream and memory. One run at a time.

    Args:
        trt: TensorRT.
        log: What it complains to.
        engine: What is run.
        profile: Number of the engine's profile for batches of that size.
        roomiest: Shape of a batch that nothing larger is run as; what the outputs need grows with the pixels too.
        has_fixed_views: Whether all are of that shape.

    Raises:
        GpuError: TensorRT or the GPU refuses; usually there is no room.
    """

    def __init__(
        self,
        trt: Module,
        log: Log,
        engine: ICudaEngine,
        profile: int,
        roomiest: Sequence[int],
        has_fixed_views: bool,
    ) -> None:
        self._lock = Lock()
        self._log = log
        self._size = roomiest[0]
        self._stream = Stream()
        self._context = self._new_context(trt, engine)
        self._demand(self._context.set_optimization_profile_async(profile, self._stream.handle), "choose a profile")
        self._stream.wait()
        names = [engine.get_tensor_name(index) for index in range(engine.num_io_tensors)]
        (self._input,) = (name for name in names if engine.get_tensor_mode(name) == trt.TensorIOMode.INPUT)
        self._shape: tuple[int, ...] | None = None
        self._take_shape(tuple(roomiest))
        bytes_in = int(np.prod(roomiest))
        self._device, self._host = DeviceMemory(bytes_in), Pinned(bytes_in)
        self._address(self._input, self._device)
        self._outputs: dict[str, _Output] = {}
        for name in names:
            if name != self._input:
                dtype = np.dtype(trt.nptype(engine.get_tensor_dtype(name)))
                size = int(np.prod(self._context.get_tensor_shape(name))) * dtype.itemsize
                self._outputs[name] = _Output(dtype, DeviceMemory(size), Pinned(size))
                self._address(name, self._outputs[name].device)
        self._graph = self._captured() if has_fixed_views else None

    def run(self, frames: NDArray[np.uint8], output: OutputName) -> NDArray[Any]:
        """Run up to `size` views, filled up with whatever the memory holds; views do not affect each other."""
        shape = (self._size, *frames.shape[1:])
        wanted = self._outputs[output]
        with self._lock:
            self._take_shape(shape)
            np.copyto(self._host.view(shape, np.uint8)[: len(frames)], frames)
            if self._graph is None:
                self._enqueue()
            else:
                self._graph.launch()
            made = tuple(self._context.get_tensor_shape(output))
            self._stream.to_host(wanted.host, wanted.device, int(np.prod(made)) * wanted.dtype.itemsize)
            self._stream.wait()
            # The next run writes into the same memory.
            return np.array(wanted.host.view(made, wanted.dtype)[: len(frames)])

    def _take_shape(self, shape: tuple[int, ...]) -> None:
        if shape != self._shape:
            self._demand(self._context.set_input_shape(self._input, shape), f"take views of shape {shape}")
            self._shape = shape

    def _address(self, name: str, memory: DeviceMemory) -> None:
        self._demand(self._context.set_tensor_address(name, memory.address), f"take the memory of {name}")

    def _enqueue(self) -> None:
        assert self._shape is not None
        self._stream.to_device(self._device, self._host, int(np.prod(self._shape)))
        self._demand(self._context.execute_async_v3(self._stream.handle), "run")

    def _captured(self) -> Graph | None:
        """Return copy and run as one graph; None where TensorRT does things that no graph can hold."""
        # The first run does what later ones need not, and what must not be captured.
        self._enqueue()
        self._stream.wait()
        try:
            return self._stream.captured(self._enqueue)
        except GpuError as error:
            logger.info("batches of %d run without a CUDA graph: %s", self._size, error)
            return None

    def _new_context(self, trt: Module, engine: ICudaEngine) -> IExecutionContext:
        context = engine.create_execution_context(trt.ExecutionContextAllocationStrategy.ON_PROFILE_CHANGE)
        if context is None:
            raise self._refusal("make a context")
        return context

    def _demand(self, done: bool, what: str) -> None:
        if not done:
            raise self._refusal(what)

    def _refusal(self, what: str) -> GpuError:
        return GpuError(f"TensorRT did not {what} (batches of {self._size}): {self._log.take()}")

"""What is used of TensorRT's Python API, and nothing else.

TensorRT is not among the packages that mypy sees, and cannot be imported on most machines. So builder and engine are
written against these protocols: each has the name of a class of the bindings, and its members and their parameters are
called as there. mypy holds our code to the protocols; tests/service/test_tensorrt_api.py holds the protocols to the
bindings of TensorRT 10.16 and 11.4 and of TensorRT-RTX.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Sequence
from contextlib import suppress
from importlib import import_module
from typing import Any, Protocol, TypeAlias, cast

from service.manifest import EngineBuilder

BindingsName: TypeAlias = EngineBuilder
Shape = Sequence[int]

_ERRORS = 20


class IHostMemory(Protocol):
    """Bytes that belong to TensorRT."""

    def __buffer__(self, flags: int, /) -> memoryview: ...


class ITensor(Protocol):
    """An input or output of a network that is not built yet."""

    name: str
    shape: Shape


class ParserError(Protocol):
    """Something that the parser does not take."""

    def desc(self) -> str: ...


class INetworkDefinition(Protocol):
    """A network that is not built yet."""

    num_inputs: int

    def get_input(self, index: int) -> ITensor: ...


class OnnxParser(Protocol):
    """Fills a network from an ONNX file."""

    num_errors: int

    def parse_from_file(self, model: str) -> bool: ...

    def get_error(self, index: int) -> ParserError: ...


class IOptimizationProfile(Protocol):
    """Shapes that an engine is made for."""

    def set_shape(self, input: str, min: Shape, opt: Shape, max: Shape) -> None: ...  # noqa: A002


class ITimingCache(Protocol):
    """What the builder has measured of kernels."""

    def serialize(self) -> IHostMemory: ...


class IBuilderConfig(Protocol):
    """How an engine is built."""

    def add_optimization_profile(self, profile: IOptimizationProfile) -> int: ...

    def clear_flag(self, flag: Any) -> None: ...

    def set_memory_pool_limit(self, pool: Any, pool_size: int) -> None: ...

    def create_timing_cache(self, serialized_timing_cache: bytes) -> ITimingCache: ...

    def set_timing_cache(self, cache: ITimingCache, ignore_mismatch: bool) -> bool: ...

    def get_timing_cache(self) -> ITimingCache: ...


class Builder(Protocol):
    """Makes engines."""

    def create_network(self, flags: int) -> INetworkDefinition: ...

    def create_builder_config(self) -> IBuilderConfig: ...

    def create_optimization_profile(self) -> IOptimizationProfile: ...

    def build_serialized_network(self, network: INetworkDefinition, config: IBuilderConfig) -> IHostMemory | None: ...


class IExecutionContext(Protocol):
    """What one run of an engine needs beside its weights."""

    def set_optimization_profile_async(self, profile_index: int, stream_handle: int) -> bool: ...

    def set_input_shape(self, name: str, shape: Shape) -> bool: ...

    def get_tensor_shape(self, name: str) -> Shape: ...

    def set_tensor_address(self, name: str, memory: int) -> bool: ...

    def execute_async_v3(self, stream_handle: int) -> bool: ...


class ICudaEngine(Protocol):
    """A network built for one kind of GPU."""

    num_io_tensors: int

    def get_tensor_name(self, index: int) -> str: ...

    def get_tensor_mode(self, name: str) -> Any: ...

    def get_tensor_dtype(self, name: str) -> Any: ...

    def create_execution_context(self, strategy: Any) -> IExecutionContext | None: ...


class Runtime(Protocol):
    """Reads engines."""

    def deserialize_cuda_engine(self, serialized_engine: bytes) -> ICudaEngine | None: ...


class Severity(Protocol):
    """How bad a line of the log is; a part of ILogger."""

    INTERNAL_ERROR: Any
    ERROR: Any


class BuilderFlag(Protocol):
    """Switches of the builder."""

    TF32: Any


class MemoryPoolType(Protocol):
    """Memory that can be limited."""

    WORKSPACE: Any


class NetworkDefinitionCreationFlag(Protocol):
    """Kinds of networks."""

    STRONGLY_TYPED: Any


class TensorIOMode(Protocol):
    """Which way a tensor goes."""

    INPUT: Any


class ExecutionContextAllocationStrategy(Protocol):
    """When a context takes its memory."""

    ON_PROFILE_CHANGE: Any


# Inside the class below their names mean its attributes.
_MakeBuilder: TypeAlias = Callable[[Any], Builder]
_MakeParser: TypeAlias = Callable[[INetworkDefinition, Any], OnnxParser]
_MakeRuntime: TypeAlias = Callable[[Any], Runtime]
_BuilderFlag: TypeAlias = BuilderFlag
_MemoryPoolType: TypeAlias = MemoryPoolType
_CreationFlag: TypeAlias = NetworkDefinitionCreationFlag
_TensorIOMode: TypeAlias = TensorIOMode
_AllocationStrategy: TypeAlias = ExecutionContextAllocationStrategy


class Module(Protocol):
    """The module `tensorrt` or `tensorrt_rtx`."""

    __version__: str
    ILogger: type[Any]
    Builder: _MakeBuilder
    OnnxParser: _MakeParser
    Runtime: _MakeRuntime
    BuilderFlag: _BuilderFlag
    MemoryPoolType: _MemoryPoolType
    NetworkDefinitionCreationFlag: _CreationFlag
    TensorIOMode: _TensorIOMode
    ExecutionContextAllocationStrategy: _AllocationStrategy

    def nptype(self, trt_type: Any) -> type[Any]: ...


class Log:
    """Keeps what TensorRT complained of last.

    Attributes:
        logger: What TensorRT is given.
    """

    def __init__(self, trt: Module) -> None:
        # Not all for ever: a server that runs for months may see it complain at each request.
        self._errors: deque[str] = deque(maxlen=_ERRORS)
        severity: Severity = trt.ILogger.Severity
        grave = (severity.INTERNAL_ERROR, severity.ERROR)

        def keep(_: object, level: object, message: str) -> None:
            if level in grave:
                self._errors.append(message)

        # The base class is known only now. Its constructor must run, which type() leaves to Python.
        self.logger: Any = type("Logger", (trt.ILogger,), {"log": keep})()

    def take(self) -> str:
        """Return its error messages since the last call."""
        errors = []
        # Not as many as there are now: another lane may take some of them meanwhile.
        with suppress(IndexError):
            while True:
                errors.append(self._errors.popleft())
        return "; ".join(errors)[:2000] or "no reason given"


def load_bindings(name: BindingsName) -> Module:
    """Import TensorRT.

    Raises:
        ImportError: It is not installed.
    """
    return cast(Module, import_module(name))

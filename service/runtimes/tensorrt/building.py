"""From an ONNX file to a TensorRT engine."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from service.files import replacing
from service.manifest import PrecisionName
from service.runtimes.options import ViewShape
from service.runtimes.tensorrt.api import IBuilderConfig, Log, Module


@dataclass(frozen=True)
class Profiles:
    """The shapes that an engine is made for: of each batch size, views from `smallest` to `largest`.

    Attributes:
        batch_sizes: Ascending.
        smallest, usual, largest: Shapes of one view; `usual` is the one to be fast for.
    """

    batch_sizes: tuple[int, ...]
    smallest: ViewShape
    usual: ViewShape
    largest: ViewShape


@dataclass(frozen=True)
class BuildRequest:
    """What is to be built.

    Attributes:
        model_file: The exported .onnx file.
        precision: What it computes in.
        profiles: The shapes.
        workspace_bytes: GPU memory that one layer may use for itself; 0: no limit.
        timing_cache: File for what the builder measures of kernels, read and written; None: keep no such measurements.
        is_for_here: Whether the engine must load on this machine's GPU.
    """

    model_file: Path
    precision: PrecisionName
    profiles: Profiles
    workspace_bytes: int = 0
    timing_cache: Path | None = None
    is_for_here: bool = True


class BuildError(Exception):
    """TensorRT does not take the file, or cannot make an engine of it; with its own words."""


def build(trt: Module, request: BuildRequest) -> bytes:
    """Return a serialized engine. The network's types are those of the file (strongly typed).

    Raises:
        BuildError: It cannot be built.
    """
    log = Log(trt)
    builder = trt.Builder(log.logger)
    network = builder.create_network(1 << int(trt.NetworkDefinitionCreationFlag.STRONGLY_TYPED))
    parser = trt.OnnxParser(network, log.logger)
    if not parser.parse_from_file(str(request.model_file)):
        found = "; ".join(parser.get_error(index).desc() for index in range(parser.num_errors))
        raise BuildError(f"cannot be parsed: {found[:2000]}")
    config = builder.create_builder_config()
    if request.precision == "fp32":
        # TensorFloat-32 keeps 10 of float32's 23 bits.
        config.clear_flag(trt.BuilderFlag.TF32)
    if request.workspace_bytes:
        config.set_memory_pool_limit(trt.MemoryPoolType.WORKSPACE, request.workspace_bytes)
    views, profiles = network.get_input(0).name, request.profiles
    for size in profiles.batch_sizes:
        profile = builder.create_optimization_profile()
        shapes = [(size, *shape) for shape in (profiles.smallest, profiles.usual, profiles.largest)]
        profile.set_shape(views, *shapes)
        config.add_optimization_profile(profile)
    if request.timing_cache is not None:
        _read_timing_cache(config, request.timing_cache)
    serialized = builder.build_serialized_network(network, config)
    if serialized is None:
        raise BuildError(f"cannot be built: {log.take()}")
    plan = bytes(serialized)
    if request.timing_cache is not None:
        # Of models that are built at the same time, the measurements of one are kept.
        with replacing(request.timing_cache) as file:
            file.write(bytes(config.get_timing_cache().serialize()))
    if request.is_for_here and trt.Runtime(log.logger).deserialize_cuda_engine(plan) is None:
        raise BuildError(f"does not load on this GPU: {log.take()}")
    return plan


def _read_timing_cache(config: IBuilderConfig, file: Path) -> None:
    content = file.read_bytes() if file.exists() else b""
    # One that another version or GPU has made is refused, and as good as an empty one.
    if not config.set_timing_cache(config.create_timing_cache(content), False):
        config.set_timing_cache(config.create_timing_cache(b""), False)

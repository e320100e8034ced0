"""The runtimes that there are: what each needs, which model files it can run, and how it is loaded."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from service.errors import RuntimeLoadError
from service.manifest import PrecisionName
from service.runtimes.base import Runtime
from service.runtimes.gpu import GpuError, find_gpu
from service.runtimes.options import GpuOptions
from service.runtimes.packages import gpu_cure, installed_version
from service.runtimes.tensorrt.api import BindingsName

CPU, GPU = "CPU", "GPU"


@dataclass(frozen=True)
class RuntimeKind:
    """One engine on one device.

    Attributes:
        name: What the setting `runtime` calls it.
        module: What Python imports.
        packages: Distributions of which one must be installed.
        extra: Extra of clipserve that installs it.
        device: CPU or GPU.
        precisions: Those of the model files that it runs.
        load: From model file, precision, threads of a run and options for GPUs; raises ImportError where the package is
            missing.
    """

    name: str
    module: str
    packages: tuple[str, ...]
    extra: str
    device: str
    precisions: tuple[PrecisionName, ...]
    load: Callable[[Path, PrecisionName, int, GpuOptions | None], Runtime]

    @property
    def version(self) -> str | None:
        """Version of the package; None where none is installed."""
        return next(filter(None, map(installed_version, self.packages)), None)

    @property
    def cure(self) -> str:
        """What installs the package."""
        return gpu_cure() if self.extra == "gpu" else f"pip install 'clipserve[{self.extra}]'"

    def open(
        self, model_file: Path, precision: PrecisionName, threads: int, options: GpuOptions | None = None
    ) -> Runtime:
        """Load a model file.

        Args:
            model_file: The exported .onnx file.
            precision: That of the file.
            threads: CPU threads that one run may use.
            options: What runtimes of the GPU need.

        Raises:
            RuntimeLoadError: The package or the device is missing, or the runtime cannot run the file.
        """
        if precision not in self.precisions:
            raise RuntimeLoadError(
                f"runtime {self.name} does not run {precision} on the {self.device}, only "
                f"{', '.join(self.precisions)}: choose another precision or runtime"
            )
        if self.version is None:
            raise RuntimeLoadError(f"runtime {self.name} is not installed: {self.cure}")
        # The provider of the CPU is in both packages.
        if self.name == "cuda" and (clash := clash_of_packages()):
            raise RuntimeLoadError(f"runtime {self.name}: {clash}")
        try:
            if self.device == GPU:
                # Libraries for GPUs may crash where there is none.
                find_gpu()
            return self.load(model_file, precision, threads, options)
        except ImportError as error:
            raise RuntimeLoadError(f"runtime {self.name} is not installed ({error}): {self.cure}") from error
        except GpuError as error:
            raise RuntimeLoadError(f"runtime {self.name}: the GPU does not take {model_file}: {error}") from error
        except RuntimeLoadError as error:
            raise RuntimeLoadError(f"runtime {self.name}: {error}") from error


def clash_of_packages() -> str | None:
    """Return what is wrong where both packages of ONNX Runtime are installed; None where it is one at most."""
    if installed_version("onnxruntime") is None or installed_version("onnxruntime-gpu") is None:
        return None
    return (
        "onnxruntime-gpu lies in the same folder as onnxruntime, and one has overwritten the other: "
        "uninstall both, then install the one you want"
    )


def _onnxruntime(model_file: Path, precision: PrecisionName, threads: int, _: GpuOptions | None) -> Runtime:
    from service.runtimes.onnx_cpu import OnnxCpuRuntime

    return OnnxCpuRuntime(model_file, precision, threads)


def _openvino(model_file: Path, precision: PrecisionName, threads: int, _: GpuOptions | None) -> Runtime:
    from service.runtimes.openvino_cpu import OpenVinoCpuRuntime

    return OpenVinoCpuRuntime(model_file, precision, threads)


def _cuda(model_file: Path, precision: PrecisionName, _: int, options: GpuOptions | None) -> Runtime:
    from service.runtimes.onnx_cuda import OnnxCudaRuntime

    assert options is not None
    return OnnxCudaRuntime(model_file, precision, options)


def _tensorrt(bindings: BindingsName) -> Callable[[Path, PrecisionName, int, GpuOptions | None], Runtime]:
    def load(model_file: Path, precision: PrecisionName, _: int, options: GpuOptions | None) -> Runtime:
        from service.runtimes.tensorrt.engine import TensorRtRuntime

        assert options is not None
        return TensorRtRuntime(bindings, model_file, precision, options)

    return load


_FLOATS: tuple[PrecisionName, ...] = ("fp32", "fp16", "bf16")

# Of the CPU: those that the setting "auto" chooses among.
CPU_KINDS = {
    kind.name: kind
    for kind in (
        RuntimeKind(
            "onnxruntime",
            "onnxruntime",
            # The package for GPUs has the provider of the CPU as well.
            ("onnxruntime", "onnxruntime-gpu"),
            "cpu",
            CPU,
            ("fp32", "fp16", "int8"),
            _onnxruntime,
        ),
        RuntimeKind("openvino", "openvino", ("openvino",), "openvino", CPU, (*_FLOATS, "int8"), _openvino),
    )
}
GPU_KINDS = {
    kind.name: kind
    for kind in (
        RuntimeKind("cuda", "onnxruntime", ("onnxruntime-gpu",), "gpu", GPU, _FLOATS, _cuda),
        RuntimeKind(
            "tensorrt",
            "tensorrt",
            ("tensorrt-cu13", "tensorrt-cu12", "tensorrt"),
            "tensorrt",
            GPU,
            (*_FLOATS, "int8"),
            _tensorrt("tensorrt"),
        ),
        RuntimeKind(
            "tensorrt_rtx",
            "tensorrt_rtx",
            ("tensorrt-rtx",),
            "tensorrt-rtx",
            GPU,
            (*_FLOATS, "int8"),
            _tensorrt("tensorrt_rtx"),
        ),
    )
}
KINDS = CPU_KINDS | GPU_KINDS

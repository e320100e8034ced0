"""The runtimes that there are: what each needs, which model files it can run, and how it is loaded."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from service.errors import RuntimeLoadError
from service.manifest import PrecisionName
from service.runtimes.base import Runtime


@dataclass(frozen=True)
class RuntimeKind:
    """One engine on one device.

    Attributes:
        name: What the setting `runtime` calls it.
        package: The distribution that it needs.
        extra: Extra of clipserve that installs it; None: every install has it.
        precisions: Those of the model files that it runs.
        load: From model file, precision and threads of a run; raises ImportError where the package is missing.
    """

    name: str
    package: str
    extra: str | None
    precisions: tuple[PrecisionName, ...]
    load: Callable[[Path, PrecisionName, int], Runtime]

    @property
    def version(self) -> str | None:
        """Version of the package; None where it is not installed."""
        try:
            return version(self.package)
        except PackageNotFoundError:
            return None

    @property
    def cure(self) -> str:
        """What installs the package."""
        return f"pip install 'clipserve[{self.extra}]'" if self.extra else "pip install clipserve"

    def open(self, model_file: Path, precision: PrecisionName, threads: int) -> Runtime:
        """Load a model file; `threads` is the number that one run may use.

        Raises:
            RuntimeLoadError: The package is missing, or the runtime cannot run the file.
        """
        if precision not in self.precisions:
            raise RuntimeLoadError(
                f"runtime {self.name} does not run {precision} on the CPU, only {', '.join(self.precisions)}: "
                "choose another precision or runtime"
            )
        try:
            return self.load(model_file, precision, threads)
        except ImportError as error:
            raise RuntimeLoadError(f"runtime {self.name} is not installed ({error}): {self.cure}") from error


def _onnxruntime(model_file: Path, precision: PrecisionName, threads: int) -> Runtime:
    from service.runtimes.onnx_cpu import OnnxCpuRuntime

    return OnnxCpuRuntime(model_file, precision, threads)


def _openvino(model_file: Path, precision: PrecisionName, threads: int) -> Runtime:
    from service.runtimes.openvino_cpu import OpenVinoCpuRuntime

    return OpenVinoCpuRuntime(model_file, precision, threads)


KINDS = {
    kind.name: kind
    for kind in (
        RuntimeKind("onnxruntime", "onnxruntime", None, ("fp32", "fp16", "int8"), _onnxruntime),
        RuntimeKind("openvino", "openvino", "openvino", ("fp32", "fp16", "bf16", "int8"), _openvino),
    )
}

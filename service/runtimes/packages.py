"""Which packages of runtimes are installed, and how those of the GPU are."""

from __future__ import annotations

from importlib.metadata import PackageNotFoundError, version


def installed_version(package: str) -> str | None:
    """Return the version of a distribution; None where it is not installed."""
    try:
        return version(package)
    except PackageNotFoundError:
        return None


def gpu_cure() -> str:
    """Return what installs the extra `gpu`: its ONNX Runtime would overwrite that of the CPU."""
    command = "pip install 'clipserve[gpu]'"
    if installed_version("onnxruntime") is None:
        return command
    return f"{command} in an environment without the extra cpu (docs/gpu.md)"

"""ONNX Runtime on an NVIDIA GPU."""

from __future__ import annotations

from pathlib import Path
from threading import Lock
from typing import Any

import numpy as np
import onnxruntime as ort
from numpy.typing import NDArray

from service.errors import RuntimeLoadError
from service.manifest import PrecisionName
from service.runtimes.base import OutputName
from service.runtimes.buckets import run_in_buckets
from service.runtimes.gpu import DEVICE, DeviceMemory, Pinned, Stream
from service.runtimes.options import GpuOptions
from service.runtimes.packages import gpu_cure

PROVIDER = "CUDAExecutionProvider"


class OnnxCudaRuntime:
    """A session of ONNX Runtime's CUDA provider.

    Views go through pinned memory into GPU memory that stays where it is; batches have a few fixed sizes, since each
    new shape makes cuDNN choose its algorithms again.

    Args:
        model_file: The exported .onnx file.
        precision: That of the file.
        options: Batch sizes, views and memory.

    Raises:
        RuntimeLoadError: The file cannot be loaded, or another provider would run it.
    """

    name = "onnxruntime-cuda"

    def __init__(self, model_file: Path, precision: PrecisionName, options: GpuOptions) -> None:
        self.precision = precision
        # cuBLAS and cuDNN lie in packages of their own, where the dynamic linker does not look.
        ort.preload_dlls()
        self._stream = Stream()
        settings = ort.SessionOptions()
        settings.log_severity_level = 3
        try:
            self._session = ort.InferenceSession(
                model_file, settings, providers=[(PROVIDER, self._provider_options(options))]
            )
        except Exception as error:
            # ONNX Runtime's exceptions have no common base below Exception.
            raise RuntimeLoadError(f"ONNX Runtime cannot load {model_file} on the GPU: {error}") from error
        if (providers := self._session.get_providers())[0] != PROVIDER:
            # It falls back to the CPU by itself, and only the log tells.
            raise RuntimeLoadError(
                f"asked for {PROVIDER}, got {', '.join(providers)}: CUDA 13 with cuBLAS, cuRAND and cuDNN 9 must be "
                f"there ({gpu_cure()})"
            )
        self._input = self._session.get_inputs()[0].name
        self._sizes = options.batch_sizes
        largest = int(np.prod((self._sizes[-1], *(options.roomiest or options.views[-1]))))
        self._host, self._device, self._lock = Pinned(largest), DeviceMemory(largest), Lock()

    def _provider_options(self, options: GpuOptions) -> dict[str, object]:
        chosen: dict[str, object] = {
            "device_id": DEVICE,
            # The default tries every algorithm at each new shape.
            "cudnn_conv_algo_search": "HEURISTIC",
            # TensorFloat-32 keeps 10 of float32's 23 bits.
            "use_tf32": 0 if self.precision == "fp32" else 1,
            "user_compute_stream": str(self._stream.handle),
        }
        return chosen | ({"gpu_mem_limit": options.memory_bytes} if options.memory_bytes else {})

    def run(self, frames: NDArray[np.uint8], output: OutputName) -> NDArray[Any]:
        """Return one of the network's outputs; see Runtime."""
        return run_in_buckets(frames, self._sizes, lambda part, size: self._run(part, size, output))

    def _run(self, frames: NDArray[np.uint8], size: int, output: OutputName) -> NDArray[Any]:
        shape = (size, *frames.shape[1:])
        with self._lock:
            np.copyto(self._host.view(shape, np.uint8)[: len(frames)], frames)
            # The session runs on this stream, so after the copy.
            self._stream.to_device(self._device, self._host, int(np.prod(shape)))
            binding = self._session.io_binding()
            binding.bind_input(self._input, "cuda", DEVICE, np.uint8, shape, self._device.address)
            binding.bind_output(output, "cpu")
            self._session.run_with_iobinding(binding)
            return np.asarray(binding.copy_outputs_to_cpu()[0])[: len(frames)]

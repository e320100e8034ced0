"""OpenVINO on the CPU."""

from __future__ import annotations

from collections import deque
from pathlib import Path
from threading import Lock
from typing import Any

import numpy as np
import openvino as ov
from numpy.typing import NDArray

from service.errors import RuntimeLoadError
from service.manifest import PrecisionName
from service.runtimes.base import OutputName
from service.runtimes.openvino_graph import split_mask, suit_openvino

DEVICE = "CPU"
# A graph of fixed shape runs up to twice as fast as one whose batch axis is open, and more than these views together
# do not make a view any faster.
LARGEST_FIXED_BATCH = 8
# Kernels kept by layer and shape. The plugin's own limit of 5,000 grows by 140 KB or so a kernel with each new size of
# picture: 240 sizes of uniformer_tiny_shapes_fpn came to 591 MB, and to 349 with this limit (2026-11-30). A network
# needs a hundred or two at one size.
KEPT_KERNELS = 1000


def has_bfloat16() -> bool:
    """Whether this CPU computes in bfloat16."""
    return "BF16" in ov.Core().get_property(DEVICE, "OPTIMIZATION_CAPABILITIES")


class OpenVinoCpuRuntime:
    """A model compiled by OpenVINO's CPU plugin.

    Where only the batch axis is open, the model is compiled once for each batch of 1, 2, 4 and 8 views that is asked
    for, and other batches run in parts: 5 views as 4 and 1. A model that takes pictures of any size is compiled once.

    Args:
        model_file: The exported .onnx file.
        precision: That of the file. "bf16" computes in bfloat16, and so does what is not quantised of an "int8" file,
            if the CPU has that; everything else is computed in float32.
        threads: Threads that one run may use.

    Raises:
        RuntimeLoadError: The file cannot be loaded, or the CPU has no bfloat16.
    """

    name = "openvino-cpu"

    def __init__(self, model_file: Path, precision: PrecisionName, threads: int) -> None:
        self.precision = precision
        self._core = ov.Core()
        bfloat16 = precision in ("bf16", "int8") and has_bfloat16()
        if precision == "bf16" and not bfloat16:
            raise RuntimeLoadError("this CPU has no bfloat16 instructions (avx512_bf16 or amx_bf16): choose fp32")
        self._options = {
            # Otherwise the plugin takes bfloat16 for all files wherever the CPU has it.
            "INFERENCE_PRECISION_HINT": "bf16" if bfloat16 else "f32",
            "INFERENCE_NUM_THREADS": threads,
            "NUM_STREAMS": 1,
            # Threads that are held to CPUs are held to the first ones, by each instance and each process: two runs of
            # one thread shared a core while the other idled. Nor is one run of two threads any faster so (28 ms
            # without and 32 with, of which 8.3 and 9.2 on the processor; uniformer_tiny_shapes, medians of 40 turns,
            # 2026-11-30, AMD EPYC).
            "ENABLE_CPU_PINNING": False,
            "CPU_RUNTIME_CACHE_CAPACITY": KEPT_KERNELS,
        }
        try:
            self._model = self._core.read_model(model_file)
            suit_openvino(self._model)
            shape = _frames_of(self._model).partial_shape
            mask = split_mask(self._model)
            self._mask = None if mask is None else _Compiled(self._core.compile_model(mask, DEVICE, self._options))
            self._view = tuple(axis.get_length() for axis in list(shape)[1:]) if shape[1:].is_static else None
            self._compiled: dict[int | None, _Compiled] = {}
            self._compiling = Lock()
            self._for_batch(1 if self._view else None)
        except (RuntimeError, RuntimeLoadError) as error:
            raise RuntimeLoadError(f"OpenVINO cannot load {model_file}: {error}") from error

    @property
    def compiled_model(self) -> ov.CompiledModel:
        """OpenVINO's own object, of the model as it is compiled for one view or for any shape."""
        return self._for_batch(1 if self._view else None).model

    def run(self, frames: NDArray[np.uint8], output: OutputName) -> NDArray[Any]:
        """Return one of the network's outputs; see Runtime."""
        logits = self._logits(frames)
        return self._mask.run(logits=logits, frames=frames) if self._mask and output == "mask" else logits

    def _logits(self, frames: NDArray[np.uint8]) -> NDArray[Any]:
        if self._view is None:
            return self._for_batch(None).run(frames=frames)
        parts = []
        while len(frames):
            size = min(LARGEST_FIXED_BATCH, 1 << (len(frames).bit_length() - 1))
            parts.append(self._for_batch(size).run(frames=frames[:size]))
            frames = frames[size:]
        return parts[0] if len(parts) == 1 else np.concatenate(parts)

    def _for_batch(self, size: int | None) -> _Compiled:
        """Return the model compiled for batches of `size`, or for any shape."""
        with self._compiling:
            if size not in self._compiled:
                model = self._model
                if size is not None:
                    model = model.clone()
                    model.reshape([size, *(self._view or ())])
                self._compiled[size] = _Compiled(self._core.compile_model(model, DEVICE, self._options))
            return self._compiled[size]


def _frames_of(model: ov.Model) -> ov.Output:
    """Return the input of a model, which OpenVINO would run without a word if it got nothing for another one.

    Raises:
        RuntimeLoadError: It is not called `frames`, or there are others.
    """
    frames, *others = model.inputs
    if others or "frames" not in frames.names:
        there = ", ".join(given.any_name for given in model.inputs)
        raise RuntimeLoadError(f"its input must be called frames, and it has {there} (docs/artefact.md)")
    return frames


class _Compiled:
    """A compiled model of one output with its idle requests; one serves one run at a time."""

    def __init__(self, model: ov.CompiledModel) -> None:
        self.model = model
        self._idle: deque[ov.InferRequest] = deque()

    def run(self, **inputs: NDArray[Any]) -> NDArray[Any]:
        given = {name: np.ascontiguousarray(values) for name, values in inputs.items()}
        try:
            request = self._idle.pop()
        except IndexError:
            request = self.model.create_infer_request()
        try:
            request.infer(given, share_inputs=True, share_outputs=True)
            # The next run of this request writes into the same memory.
            return np.array(request.get_output_tensor(0).data)
        finally:
            self._idle.append(request)

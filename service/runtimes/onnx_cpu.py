"""ONNX Runtime on the CPU."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime as ort
from numpy.typing import NDArray

from service.errors import RuntimeLoadError
from service.manifest import PrecisionName
from service.runtimes.base import OutputName

PROVIDER = "CPUExecutionProvider"
# A sum and the LayerNorm of it as one operator take five times as long as the two (45 ms and 9 in morphmlp_s_16x4_k400,
# ONNX Runtime 1.31.1, two threads, 2026-11-30, AMD EPYC).
SLOWER_FUSIONS = ["SkipLayerNormFusion"]


class OnnxCpuRuntime:
    """A session of ONNX Runtime's CPU provider.

    Args:
        model_file: The exported .onnx file.
        precision: That of the file.
        threads: Threads that one run may use.

    Raises:
        RuntimeLoadError: The file cannot be loaded, or another provider than the CPU's would run it.
    """

    name = "onnxruntime-cpu"

    def __init__(self, model_file: Path, precision: PrecisionName, threads: int) -> None:
        self.precision = precision
        options = ort.SessionOptions()
        options.intra_op_num_threads = threads
        # A plan of memory is kept for each shape that ran twice, beside what the first run took: batches of 1 to 8 of
        # uniformer_s_in1k left 423 MB with the plans and 265 without, at the same speed (2026-11-30, AMD EPYC).
        options.enable_mem_pattern = False
        # Waiting threads that spin would take the cores that decode workers need.
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")
        options.log_severity_level = 3
        try:
            self._session = ort.InferenceSession(
                model_file, options, providers=[PROVIDER], disabled_optimizers=SLOWER_FUSIONS
            )
        except Exception as error:
            # ONNX Runtime's exceptions have no common base below Exception.
            raise RuntimeLoadError(f"ONNX Runtime cannot load {model_file}: {error}") from error
        if self._session.get_providers() != [PROVIDER]:
            raise RuntimeLoadError(f"asked for {PROVIDER}, got {self._session.get_providers()}")
        self._input = self._session.get_inputs()[0].name

    def run(self, frames: NDArray[np.uint8], output: OutputName) -> NDArray[Any]:
        """Return one of the network's outputs; see Runtime."""
        return np.asarray(self._session.run([output], {self._input: frames})[0])

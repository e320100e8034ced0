"""In what types a runtime really computes a network's layers, asked of the runtime itself."""

from __future__ import annotations

import tempfile
from collections import Counter
from pathlib import Path

import onnx
import onnxruntime as ort

from service.runtimes.base import Runtime
from service.runtimes.onnx_cpu import PROVIDER, SLOWER_FUSIONS
from service.runtimes.openvino_cpu import OpenVinoCpuRuntime

_OPENVINO_LAYERS = {"Convolution", "FullyConnected", "MatMul"}
# Of ONNX Runtime's optimised graphs.
_TYPES = {
    **dict.fromkeys(("Conv", "FusedConv", "MatMul", "FusedMatMul", "Gemm", "FusedGemm"), "f32"),
    **dict.fromkeys(("QLinearConv", "QLinearMatMul", "QGemm", "MatMulIntegerToFloat", "DynamicQuantizeMatMul"), "i8"),
}


def layers(runtime: Runtime, model_file: Path) -> str:
    """Return how many convolutions and matrix products are computed in each type, for example "i8 84, f32 3".

    "i8" stands for integers of 8 bits with and without sign.
    """
    counts = of_openvino(runtime) if isinstance(runtime, OpenVinoCpuRuntime) else _of_onnxruntime(model_file)
    counts["i8"] += counts.pop("u8", 0)
    return ", ".join(f"{kind} {count}" for kind, count in counts.most_common() if count)


def of_openvino(runtime: OpenVinoCpuRuntime) -> Counter[str]:
    """Return how many convolutions and matrix products take what type of input: "f32", "bf16", "i8" or "u8"."""
    facts = [node.get_rt_info() for node in runtime.compiled_model.get_runtime_model().get_ops()]
    return Counter(
        fact["runtimePrecision"].astype(str) for fact in facts if fact["layerType"].astype(str) in _OPENVINO_LAYERS
    )


def _of_onnxruntime(model_file: Path) -> Counter[str]:
    """Read the graph that ONNX Runtime makes of a file on this CPU."""
    with tempfile.TemporaryDirectory() as folder:
        options = ort.SessionOptions()
        options.optimized_model_filepath = str(Path(folder) / "optimised.onnx")
        options.log_severity_level = 3
        ort.InferenceSession(model_file, options, providers=[PROVIDER], disabled_optimizers=SLOWER_FUSIONS)
        graph = onnx.load(options.optimized_model_filepath, load_external_data=False).graph
    return Counter(_TYPES[node.op_type] for node in graph.node if node.op_type in _TYPES)

"""Classification artefacts without a trained network: what they answer tells which version was asked."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from tests.artefact import write_manifest_file

SIDE = 32
CLASSES = 16


def write_classifier(repository: Path, name: str, version: int, answer: int | None = None, ballast: int = 0) -> Path:
    """Write an artefact and return its folder.

    Args:
        repository: Where to.
        name: Of the model.
        version: Its number.
        answer: The class that it gives every picture; None: the one with the number of the version.
        ballast: Bytes of weights that it carries.
    """
    folder = repository / name / str(version)
    folder.mkdir(parents=True, exist_ok=True)
    onnx.save(_graph(version if answer is None else answer, ballast), folder / "model.onnx")
    (folder / "labels.txt").write_text("".join(f"class {number}\n" for number in range(CLASSES)))
    write_manifest(folder)
    return folder


def write_manifest(folder: Path, **changes: object) -> None:
    """Write the manifest of the model file and labels that are there."""
    own: dict[str, object] = {
        "task": "image_classification",
        "inputs": [{"name": "frames", "dtype": "uint8", "shape": ["batch", SIDE, SIDE, 3]}],
        "outputs": [{"name": "logits", "dtype": "float32", "shape": ["batch", CLASSES]}],
        "preprocessing": {
            "resize": SIDE,
            "crop": [SIDE, SIDE],
            "interpolation": "bilinear",
            "centering": "round",
            "mean": [0.0, 0.0, 0.0],
            "std": [1.0, 1.0, 1.0],
            "channels": "rgb",
        },
        "sampling": {"kind": "single", "num_frames": 1},
        "views": {"clips": 1, "crops": 1, "single_crop": "center", "combine": "mean_logits"},
        "multi_label": False,
        "num_classes": CLASSES,
    }
    write_manifest_file(folder, SIDE, [1, 4], **own | changes)


def _graph(answer: int, ballast: int) -> onnx.ModelProto:
    # The mean of a picture is looked up among zeros, so that the answer needs the input and is always the same.
    row = np.zeros((1, CLASSES), np.float32)
    row[0, answer] = 10
    weights = [
        numpy_helper.from_array(np.array([1, 2, 3], np.int64), "axes"),
        numpy_helper.from_array(np.zeros(max(256, ballast // 4), np.float32), "zeros"),
        numpy_helper.from_array(np.array([1], np.int64), "last"),
        numpy_helper.from_array(row, "row"),
    ]
    nodes = [
        helper.make_node("Cast", ["frames"], ["pixels"], to=TensorProto.FLOAT),
        helper.make_node("ReduceMean", ["pixels", "axes"], ["means"], keepdims=0),
        helper.make_node("Cast", ["means"], ["places"], to=TensorProto.INT64),
        helper.make_node("Gather", ["zeros", "places"], ["found"]),
        helper.make_node("Unsqueeze", ["found", "last"], ["column"]),
        helper.make_node("Add", ["column", "row"], ["logits"]),
    ]
    inputs = [helper.make_tensor_value_info("frames", TensorProto.UINT8, ["batch", SIDE, SIDE, 3])]
    outputs = [helper.make_tensor_value_info("logits", TensorProto.FLOAT, ["batch", CLASSES])]
    graph = helper.make_graph(nodes, "answer", inputs, outputs, weights)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10)

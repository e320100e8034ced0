"""A segmentation artefact whose right answers need no network: the class of a pixel is the nearest of four colours.

The graph is written by hand and knows nothing of the exporter, so what a server answers with it shows what the server
did to the picture.
"""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

from tests.artefact import write_manifest_file
from tests.server import ROOT

NAME = "nearest_colour"
CLASSIFIER = "uniformer_tiny_shapes"
LABELS = ("black", "red", "green", "blue")
# What the classes look like in uploads, and what masks are drawn with: different, so that they are not confused.
COLOURS = np.array([[0, 0, 0], [255, 0, 0], [0, 255, 0], [0, 0, 255]], np.uint8)
PALETTE = [[10, 20, 30], [200, 100, 0], [0, 120, 220], [250, 250, 0]]
SHORT_SIDE, MAX_LONG_SIDE, WINDOW = 128, 512, 128


def write_repository(folder: Path) -> Path:
    """Make a repository of this artefact and the demo's classifier, and return its folder."""
    repository = folder / "models"
    write_segmenter(repository)
    (repository / CLASSIFIER).symlink_to(ROOT / "model_repository" / CLASSIFIER)
    return repository


def write_segmenter(repository: Path) -> None:
    """Write the artefact into a repository folder."""
    folder = repository / NAME / "1"
    folder.mkdir(parents=True)
    onnx.save(_graph(), folder / "model.onnx")
    (folder / "labels.txt").write_text("".join(f"{label}\n" for label in LABELS))
    (folder / "palette.json").write_text(json.dumps(PALETTE))
    write_manifest_file(
        folder,
        WINDOW,
        [1, 2],
        task="image_segmentation",
        inputs=[{"name": "frames", "dtype": "uint8", "shape": ["batch", "height", "width", 3]}],
        outputs=[
            {"name": "mask", "dtype": "uint8", "shape": ["batch", "height", "width"]},
            {"name": "logits", "dtype": "float32", "shape": ["batch", 4, "height/4", "width/4"]},
        ],
        preprocessing={
            "short_side": SHORT_SIDE,
            "max_long_side": MAX_LONG_SIDE,
            "align": "stretch",
            "window": WINDOW,
            "mean": [0.0, 0.0, 0.0],
            "std": [1.0, 1.0, 1.0],
            "channels": "rgb",
        },
        num_classes=4,
        palette="palette.json",
    )


def _graph() -> onnx.ModelProto:
    # |x - c|^2 is smallest where 2 x.c - |c|^2 is largest: a 1x1 convolution.
    colours = COLOURS.astype(np.float32) / 255
    weights = [
        numpy_helper.from_array((2 * colours / 255).reshape(4, 3, 1, 1), "weight"),
        numpy_helper.from_array(-(colours**2).sum(axis=1), "bias"),
    ]
    nodes = [
        helper.make_node("Cast", ["frames"], ["pixels"], to=TensorProto.FLOAT),
        helper.make_node("Transpose", ["pixels"], ["planes"], perm=[0, 3, 1, 2]),
        helper.make_node("Conv", ["planes", "weight", "bias"], ["full"]),
        helper.make_node("ArgMax", ["full"], ["classes"], axis=1, keepdims=0),
        helper.make_node("Cast", ["classes"], ["mask"], to=TensorProto.UINT8),
        helper.make_node("AveragePool", ["full"], ["logits"], kernel_shape=[4, 4], strides=[4, 4]),
    ]
    inputs = [helper.make_tensor_value_info("frames", TensorProto.UINT8, ["batch", "height", "width", 3])]
    outputs = [
        helper.make_tensor_value_info("mask", TensorProto.UINT8, ["batch", "height", "width"]),
        helper.make_tensor_value_info("logits", TensorProto.FLOAT, ["batch", 4, "rows", "columns"]),
    ]
    graph = helper.make_graph(nodes, NAME, inputs, outputs, weights)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10)


def quarters(height: int, width: int) -> NDArray[np.uint8]:
    """Return a mask (H, W) of four quarters: black, red / green, blue; no turn or flip of it looks the same."""
    mask = np.zeros((height, width), np.uint8)
    mask[:, width // 2 :] += 1
    mask[height // 2 :] += 2
    return mask

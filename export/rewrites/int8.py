"""Changes to a float32 graph before it is quantised: they keep OpenVINO from computing something else than it says.

OpenVINO 2026.4 moves the scales of int8 layers through the operators that follow, and quantisation through those that
come before, some of which it misjudges. Found by comparing its answers with ONNX Runtime's on the same int8 file.
"""

from __future__ import annotations

import numpy as np
import onnx
from onnx import helper, numpy_helper

_LOWEST = "lowest_float32"


def prepare_for_int8(graph: onnx.GraphProto) -> None:
    """Apply every change to a float32 graph, in place; its outputs stay as they are."""
    _keep_reduced_axes(graph)
    _hold_scales(graph)


def _keep_reduced_axes(graph: onnx.GraphProto) -> None:
    """Make every mean keep the axes that it reduces, and drop them after it.

    A scale of each channel, of shape (channels, 1), is moved from before a mean to behind it; if the mean drops its
    axis, the scale then meets the wrong one, and the answers are noise.
    """
    nodes = []
    for node in graph.node:
        nodes.append(node)
        kept = next((attribute for attribute in node.attribute if attribute.name == "keepdims"), None)
        if node.op_type == "ReduceMean" and kept is not None and not kept.i:
            kept.i = 1
            name, node.output[0] = node.output[0], f"{node.output[0]}_kept"
            nodes.append(helper.make_node("Squeeze", [node.output[0], node.input[1]], [name], f"{node.name}_squeeze"))
    _replace_nodes(graph, nodes)


def _hold_scales(graph: onnx.GraphProto) -> None:
    """Put a maximum with the lowest number, which changes nothing and which no scale passes, where one must not.

    Between a convolution and a LayerNormalization with nothing but sums, transposes and reshapes between: the scale of
    each channel goes through a normalisation over the channels as if they were not its last axis, and is lost.
    Between a concatenation and a convolution: its input is not quantised in the range that the file gives.
    """
    held = _joined_inputs(graph) | _normalised_outputs(graph)
    if not held:
        return
    graph.initializer.append(numpy_helper.from_array(np.array(np.finfo(np.float32).min), _LOWEST))
    nodes = []
    for node in graph.node:
        nodes.append(node)
        if node.output[0] in held:
            name, node.output[0] = node.output[0], f"{node.output[0]}_free"
            nodes.append(helper.make_node("Max", [node.output[0], _LOWEST], [name], f"{node.name}_hold"))
    _replace_nodes(graph, nodes)


def _joined_inputs(graph: onnx.GraphProto) -> set[str]:
    """Return the names of concatenations that go into a convolution."""
    joined = {node.output[0] for node in graph.node if node.op_type == "Concat"}
    return joined & {node.input[0] for node in graph.node if node.op_type == "Conv"}


def _normalised_outputs(graph: onnx.GraphProto) -> set[str]:
    """Return the names of convolutions' outputs that reach a LayerNormalization by sums, transposes and reshapes."""
    made_by = {name: node for node in graph.node for name in node.output}
    followed = [node.input[0] for node in graph.node if node.op_type == "LayerNormalization"]
    found, seen = set[str](), set[str]()
    while followed:
        name = followed.pop()
        node = made_by.get(name)
        if node is None or name in seen:
            continue
        seen.add(name)
        if node.op_type == "Conv":
            found.add(name)
        elif node.op_type in ("Add", "Transpose", "Reshape"):
            followed += node.input
    return found


def _replace_nodes(graph: onnx.GraphProto, nodes: list[onnx.NodeProto]) -> None:
    del graph.node[:]
    graph.node.extend(nodes)

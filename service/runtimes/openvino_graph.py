"""What OpenVINO runs faster in another form than the one in the file."""

from __future__ import annotations

import numpy as np
import openvino as ov
from openvino import opset15 as ops

from service.errors import RuntimeLoadError
from service.runtimes.openvino_depthwise import restore_depthwise


def suit_openvino(model: ov.Model) -> None:
    """Change a model that was read from a file, in place; its outputs stay as they are but for rounding."""
    restore_depthwise(model)
    for node in model.get_ordered_ops():
        if node.get_type_name() == "MVN":
            _flatten_norm(node)
        elif node.get_type_name() == "Softmax":
            _narrow_softmax(node)
    model.validate_nodes_and_infer_types()


def _flatten_norm(norm: ov.Node) -> None:
    """Let a LayerNorm over the last axis of a plane (B, ..., C) work on tokens (B, N, C).

    OpenVINO has a kernel for the second; it computes the first by several operators, with the axes of a map in memory.
    """
    source = norm.input_value(0)
    shape = source.get_partial_shape()
    if shape.rank.is_dynamic or len(shape) < 4 or shape[-1].is_dynamic:
        return
    if not _is_last_axis(norm.input_value(1).get_node(), len(shape)):
        return
    tokens = ops.reshape(source, np.array([0, -1, shape[-1].get_length()]), special_zero=True)
    attributes = norm.get_attributes()
    normalised = ops.mvn(
        tokens, np.array([-1]), attributes["normalize_variance"], attributes["eps"], attributes["eps_mode"]
    )
    plane = ops.reshape(normalised, ops.shape_of(source), special_zero=False)
    norm.output(0).replace(plane.output(0))


def _is_last_axis(axes: ov.Node, rank: int) -> bool:
    """Whether the axes, of which OpenVINO's reader makes a range of three constants, are the last one alone."""
    bounds = [value.get_node() for value in axes.input_values()]
    if axes.get_type_name() != "Range" or any(bound.get_type_name() != "Constant" for bound in bounds):
        return False
    return [axis % rank for axis in range(*(int(bound.get_data().item()) for bound in bounds))] == [rank - 1]


def _narrow_softmax(softmax: ov.Node) -> None:
    """Take the conversions to float32 and back from around a softmax in bfloat16.

    They are for GPUs. Here they keep OpenVINO from its kernel for the whole of an attention, which sums in float32
    whatever the type of its inputs.
    """
    widened, users = softmax.input_value(0).get_node(), softmax.output(0).get_target_inputs()
    narrowed = [user.get_node() for user in users]
    if widened.get_type_name() != "Convert" or [node.get_type_name() for node in narrowed] != ["Convert"]:
        return
    source = widened.input_value(0)
    if source.get_element_type() == ov.Type.bf16 == narrowed[0].get_output_element_type(0):
        whole = ops.softmax(source, softmax.get_attributes()["axis"])
        narrowed[0].output(0).replace(whole.output(0))


def split_mask(model: ov.Model) -> ov.Model | None:
    """Leave `model` no output but `logits`; return the model that makes `mask` of `logits` and `frames`.

    A mask is a sixth of a segmentation network's work, nobody who asks for logits needs it, and OpenVINO computes all
    outputs of a model. None if there is no such output.

    Raises:
        RuntimeLoadError: There is no output `logits`.
    """
    head = model.clone() if any("mask" in output.names for output in model.outputs) else None
    _keep_output(model, "logits")
    if head is None:
        return None
    source = _result(head, "logits").input_value(0)
    given = ops.parameter(source.get_partial_shape(), source.get_element_type(), name="logits")
    given.output(0).get_tensor().set_names({"logits"})
    _keep_output(head, "mask")
    for user in source.get_target_inputs():
        user.replace_source_output(given.output(0))
    return ov.Model(head.get_results(), [given, *head.get_parameters()], "mask")


def _keep_output(model: ov.Model, name: str) -> None:
    kept = _result(model, name)
    for output in model.outputs:
        if output.get_node() != kept:
            model.remove_result(output.get_node())


def _result(model: ov.Model, name: str) -> ov.Node:
    for output in model.outputs:
        if name in output.names:
            return output.get_node()
    there = ", ".join(output.any_name for output in model.outputs)
    raise RuntimeLoadError(f"it has no output called {name}, only {there} (docs/artefact.md)")

"""Depthwise convolutions over time and space, which an exported file has as grouped ones over space.

Their channels are the time steps (export/rewrites/time_as_channels.py): ONNX Runtime is fastest so. OpenVINO has a
kernel of its own for the depthwise form, so it gets that back when a file is loaded.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import openvino as ov
from numpy.typing import NDArray
from openvino import opset15 as ops


def restore_depthwise(model: ov.Model) -> None:
    """Turn every Reshape, GroupConvolution over space, bias, Reshape of that kind back into one convolution over time.

    A convolution is one of that kind if its kernels are those that a depthwise kernel would give, number for number.
    """
    for node in model.get_ordered_ops():
        if node.get_type_name() == "Reshape":
            restored = _restored(node)
            if restored is not None:
                restored.set_friendly_name(node.get_friendly_name())
                node.output(0).replace(restored.output(0))
    model.validate_nodes_and_infer_types()


def _restored(unfolded: ov.Node) -> ov.Node | None:
    """Return what gives the same as the last Reshape, or None if it does not end such a convolution."""
    conv, bias = _source(unfolded), None
    if conv.get_type_name() == "Add":
        conv, bias = _source(conv), _constant(conv.input_value(1))
        if bias is None:
            return None
    if conv.get_type_name() != "GroupConvolution" or _source(conv).get_type_name() != "Reshape":
        return None
    clip, band = _source(conv).input_value(0), _constant(conv.input_value(1))
    if band is None or band.ndim != 5:
        return None
    if not (_is_folded(clip, conv.input_value(0), band) and _is_folded(unfolded.output(0), conv.output(0), band)):
        return None
    kernel = _depthwise(band)
    if kernel is None:
        return None
    reach, attributes = kernel.shape[3] // 2, conv.get_attributes()
    restored = ops.group_convolution(
        clip,
        ops.constant(kernel),
        strides=[1, *attributes["strides"]],
        pads_begin=[reach, *attributes["pads_begin"]],
        pads_end=[reach, *attributes["pads_end"]],
        dilations=[1, *attributes["dilations"]],
    )
    if bias is None:
        return restored
    folded = band.shape[0] * band.shape[1]
    if bias.shape not in ((1, folded, 1, 1), (folded, 1, 1)):
        # One number for everything, or one a column or pixel.
        return None
    of_steps = bias.reshape(band.shape[:2])
    if (of_steps != of_steps[:, :1]).any():
        return None
    # OpenVINO would take float16 that is not contiguous for int16.
    return ops.add(restored, ops.constant(np.ascontiguousarray(of_steps[:, 0]).reshape(1, -1, 1, 1, 1)))


def _is_folded(clip: ov.Output, flat: ov.Output, band: NDArray[Any]) -> bool:
    """Whether `clip` is (B, C, T, H, W) and `flat` (B, C * T, H, W), with C and T those of the kernels."""
    channels, steps = band.shape[:2]
    shape, of_flat = clip.get_partial_shape()[1:], flat.get_partial_shape()[1:]
    if not (shape.is_static and of_flat.is_static):
        return False
    sizes = list(shape.to_shape())
    return sizes[:2] == [channels, steps] and list(of_flat.to_shape()) == [channels * steps, *sizes[2:]]


def _depthwise(band: NDArray[Any]) -> NDArray[Any] | None:
    """Return the kernel (C, 1, 1, k, kh, kw) of which `band` (C, T, T, kh, kw) has, for each pair of steps, the slice.

    None if there is no such kernel.
    """
    channels, steps, inputs, *size = band.shape
    if steps != inputs:
        return None
    distance = np.arange(steps)[None] - np.arange(steps)[:, None]  # from the output's step to the input's
    used = band.any(axis=(0, 3, 4))
    reach = int(np.abs(distance[used]).max(initial=0))
    kernel = np.zeros((channels, 2 * reach + 1, *size), band.dtype)
    for offset in range(-reach, reach + 1):
        slices = band[:, distance == offset]  # (C, pairs, kh, kw)
        if (slices != slices[:, :1]).any():
            return None
        kernel[:, offset + reach] = slices[:, 0]
    return kernel[:, None, None]


def _source(node: ov.Node) -> ov.Node:
    return node.input_value(0).get_node()


def _constant(value: ov.Output) -> NDArray[Any] | None:
    """Return a constant as an array, also behind a Reshape; None if it is computed."""
    node = value.get_node()
    if node.get_type_name() == "Constant":
        return np.array(node.get_data())
    if node.get_type_name() == "Reshape" and value.get_partial_shape().is_static:
        inner = _constant(node.input_value(0))
        return None if inner is None else inner.reshape(value.get_shape())
    return None

"""A depthwise convolution over time and space becomes a grouped one over space, with time steps as channels.

A depthwise kernel w of k time steps computes, for each channel c and step t, the sum over s of

    conv2d(x[c, s], w[c, s - t + k // 2]),    0 <= s - t + k // 2 < k

that is, a two-dimensional convolution from the T steps of a channel to its T steps, whose T x T kernels lie in a band
and are zero elsewhere. One group is one channel. The zeros cost T / k times the multiplications, and it pays all the
same: ONNX Runtime runs a three-dimensional depthwise convolution as one matrix product of a single row for each
channel, and this one as products of T rows. OpenVINO has a kernel of its own for the three-dimensional form, and turns
such convolutions back when it loads a file (service/runtimes/openvino_depthwise.py).
"""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray
from onnxscript.rewriter import MatchResult, RewriteRuleClassBase

from export.rewrites.reading import constant, integer, integers, matched, producer


class TimeAsChannels(RewriteRuleClassBase):
    """Depthwise Conv on (B, C, T, H, W) that keeps T -> Reshape, Conv on (B, C * T, H, W), Reshape."""

    def pattern(self, op: Any, x: Any) -> Any:
        return op.Conv(x, _allow_other_inputs=True, _outputs=["convolved"])

    def check(self, _context: Any, x: ir.Value, convolved: ir.Value) -> MatchResult:
        conv = producer(convolved)
        weight = constant(conv.inputs[1])
        if weight is None or weight.ndim != 5 or x.shape is None or convolved.shape is None:
            return matched(False)
        channels, in_group, steps = weight.shape[:3]
        is_depthwise = in_group == 1 and integer(conv, "group", 1) == channels
        sizes = (*x.shape[1:], *convolved.shape[1:])
        return matched(
            is_depthwise
            and steps > 1
            and steps % 2 == 1
            and integers(conv, "strides", [1] * 3)[0] == 1
            and integers(conv, "dilations", [1] * 3) == [1] * 3
            and integers(conv, "pads", [0] * 6)[::3] == [steps // 2] * 2
            and all(isinstance(size, int) for size in sizes)
        )

    def rewrite(self, op: Any, x: ir.Value, convolved: ir.Value) -> Any:
        conv = producer(convolved)
        weight = constant(conv.inputs[1])
        assert weight is not None
        assert x.shape is not None
        assert convolved.shape is not None
        channels, steps, height, width = (size for size in x.shape[1:] if isinstance(size, int))
        inputs = [op.initializer(ir.tensor(band(weight, steps)), name=f"{conv.name}_band")]
        if len(conv.inputs) > 2:
            bias = constant(conv.inputs[2])
            assert bias is not None
            inputs.append(op.initializer(ir.tensor(np.repeat(bias, steps)), name=f"{conv.name}_bias"))
        pads = integers(conv, "pads", [0] * 6)
        flat = op.Reshape(x, _shape(op, conv, "flat", [0, channels * steps, height, width]))
        mixed = op.Conv(
            flat,
            *inputs,
            group=channels,
            kernel_shape=list(weight.shape[3:]),
            strides=integers(conv, "strides", [1] * 3)[1:],
            pads=[*pads[1:3], *pads[4:6]],
        )
        return op.Reshape(mixed, _shape(op, conv, "deep", [0, *convolved.shape[1:]]))


def band(weight: NDArray[Any], steps: int) -> NDArray[Any]:
    """Return the kernels of all pairs of time steps: (C, 1, k, kh, kw) -> (C * T, T, kh, kw), output step first."""
    channels, _, reach, *kernel = weight.shape
    kernels = np.zeros((channels, steps, steps, *kernel), weight.dtype)
    for output in range(steps):
        for step in range(max(0, output - reach // 2), min(steps, output + reach // 2 + 1)):
            kernels[:, output, step] = weight[:, 0, step - output + reach // 2]
    return kernels.reshape(channels * steps, steps, *kernel)


def _shape(op: Any, conv: ir.Node, name: str, sizes: list[Any]) -> Any:
    # 0 keeps the batch axis.
    return op.initializer(ir.tensor(np.array(sizes, np.int64)), name=f"{conv.name}_{name}")

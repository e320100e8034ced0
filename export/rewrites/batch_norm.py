"""A BatchNormalization before a pointwise convolution becomes part of it.

With s = scale / sqrt(variance + epsilon) and t = shift - s * mean, the convolution of the normalised map is

    W (s * x + t) + b = (W * s) x + (W t + b)

at every position. A larger kernel has no such bias at the border: there zeros are summed, not t.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx_ir as ir
from onnxscript.rewriter import MatchResult, RewriteRuleClassBase

from export.rewrites.reading import constant, integer, integers, matched, producer


class FoldBatchNorm(RewriteRuleClassBase):
    """Conv(BatchNormalization(x)) with a kernel of one position -> Conv(x)."""

    def pattern(self, op: Any, x: Any) -> Any:
        normalised = op.BatchNormalization(x, _allow_other_inputs=True, _outputs=["normalised"])
        return op.Conv(normalised, _allow_other_inputs=True, _outputs=["convolved"])

    def check(  # type: ignore[override]
        self, _context: Any, normalised: ir.Value, convolved: ir.Value, **_values: Any
    ) -> MatchResult:
        norm, conv = producer(normalised), producer(convolved)
        weight = constant(conv.inputs[1])
        return matched(
            weight is not None
            and set(weight.shape[2:]) == {1}
            and not any(integers(conv, "pads", []))
            and integer(conv, "group", 1) == 1
            and all(constant(value) is not None for value in (*norm.inputs[1:], *conv.inputs[2:]))
        )

    def rewrite(self, op: Any, x: ir.Value, normalised: ir.Value, convolved: ir.Value) -> Any:
        norm, conv = producer(normalised), producer(convolved)
        scale, shift, mean, variance = (_float64(value) for value in norm.inputs[1:])
        factor = scale / np.sqrt(variance + norm.attributes["epsilon"].as_float())
        offset = shift - factor * mean
        weight = _float64(conv.inputs[1])
        bias = _float64(conv.inputs[2]) if len(conv.inputs) > 2 else 0.0
        ones = (1,) * (weight.ndim - 2)
        dtype = constant(conv.inputs[1]).dtype  # type: ignore[union-attr]
        folded = (weight * factor.reshape(1, -1, *ones)).astype(dtype)
        biases = (weight.reshape(weight.shape[:2]) @ offset + bias).astype(dtype)
        return op.Conv(
            x,
            op.initializer(ir.tensor(folded), name=f"{conv.name}_weight"),
            op.initializer(ir.tensor(biases), name=f"{conv.name}_bias"),
            **conv.attributes,
        )


def _float64(value: ir.Value | None) -> Any:
    array = constant(value)
    assert array is not None
    return array.astype(np.float64)

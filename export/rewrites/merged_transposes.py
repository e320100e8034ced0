"""Two moves of axes with arithmetic by constants between them become one.

Frames come with their channels last, are normalised with their channels first, and MLP-3D's tubelets want them behind
the frames. Moving the axes of a clip twice takes several times as long as moving them once.
"""

from __future__ import annotations

from typing import Any

import onnx_ir as ir
from numpy.typing import NDArray
from onnxscript.rewriter import MatchResult, RewriteRuleClassBase

from export.rewrites.reading import constant, integer, integers, matched, producer


class MergeTransposes(RewriteRuleClassBase):
    """Transpose, then Mul and Add by constants and Cast, then Transpose -> one Transpose before the arithmetic."""

    def pattern(self, op: Any, x: Any) -> Any:
        return op.Transpose(x, _outputs=["moved"])

    def check(self, _context: Any, x: ir.Value, moved: ir.Value) -> MatchResult:
        both = (_first_transpose(x), producer(moved))
        return matched(all(node is not None and "perm" in node.attributes for node in both))

    def rewrite(self, op: Any, x: ir.Value, moved: ir.Value) -> Any:
        second = integers(producer(moved), "perm", [])
        first = _first_transpose(x)
        assert first is not None
        between = []
        while producer(x) is not first:
            between.append(producer(x))
            x = _operand(between[-1])
        order = integers(first, "perm", [])
        y = op.Transpose(first.inputs[0], perm=[order[axis] for axis in second])
        for node in reversed(between):
            if node.op_type == "Cast":
                y = op.Cast(y, to=integer(node, "to", ir.DataType.FLOAT))
            else:
                factor = op.initializer(ir.tensor(_moved(_constant_operand(node), second)), name=f"{node.name}_moved")
                y = op.op(node.op_type, y, factor)
        return y


def _moved(value: ir.Value | None, order: list[int]) -> NDArray[Any]:
    """Return a constant with its axes in another order, after those that broadcasting would add in front."""
    array = constant(value)
    assert array is not None
    return array.reshape(*(1,) * (len(order) - array.ndim), *array.shape).transpose(order).copy()


def _first_transpose(value: ir.Value) -> ir.Node | None:
    """Return the Transpose above `value` with nothing but arithmetic by constants between; None if there is none."""
    while (node := value.producer()) is not None and len(value.uses()) == 1:
        if node.op_type == "Transpose":
            return node
        if node.op_type != "Cast" and _constant_operand(node) is None:
            return None
        value = _operand(node)
    return None


def _constant_operand(node: ir.Node) -> ir.Value | None:
    """Return the constant that a Mul or Add has for an operand, if it has one."""
    is_arithmetic = node.op_type in ("Mul", "Add")
    return next((value for value in node.inputs if constant(value) is not None), None) if is_arithmetic else None


def _operand(node: ir.Node) -> ir.Value:
    """Return what a Cast, or a Mul or Add by a constant, works on."""
    return next(value for value in node.inputs if value is not None and constant(value) is None)

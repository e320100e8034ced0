"""What rewrites read of a graph."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray
from onnxscript.rewriter import MatchResult


def constant(value: ir.Value | None) -> NDArray[Any] | None:
    """Return an initializer as an array; None if the value is absent or computed."""
    tensor = None if value is None else value.const_value
    return None if tensor is None else np.asarray(tensor.numpy())


def integers(node: ir.Node, name: str, default: list[int]) -> list[int]:
    """Return an attribute that is a list of integers, or `default` where it is absent."""
    attribute = node.attributes.get(name)
    return default if attribute is None else list(attribute.as_ints())


def integer(node: ir.Node, name: str, default: int) -> int:
    """Return an attribute that is an integer, or `default` where it is absent."""
    attribute = node.attributes.get(name)
    return default if attribute is None else attribute.as_int()


def producer(value: ir.Value) -> ir.Node:
    """Return the node that computes a value."""
    node = value.producer()
    assert node is not None, f"{value.name} is no node's output"
    return node


def matched(is_match: bool) -> MatchResult:
    """Return a rule's answer to whether it applies."""
    result = MatchResult()
    return result if is_match else result.fail("does not apply")

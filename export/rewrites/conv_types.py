"""Weights in the type of what they are multiplied by.

Where the exporter folds a BatchNorm into the convolution before it, it computes in float32 and leaves the result so,
whatever the type of the network; a convolution of two types is none.
"""

from __future__ import annotations

import onnx_ir as ir

from export.rewrites.reading import constant


def unify_types(model: ir.Model) -> None:
    """Give the constants of every convolution the type of its input."""
    for node in list(model.graph):
        if node.op_type != "Conv" or node.inputs[0] is None or node.inputs[0].dtype is None:
            continue
        dtype = node.inputs[0].dtype
        for position, value in enumerate(node.inputs[1:], start=1):
            array = constant(value)
            if value is None or array is None or value.dtype == dtype:
                continue
            tensor = ir.tensor(array.astype(dtype.numpy()), name=f"{value.name}_{dtype.name.lower()}")
            cast = ir.Value(name=tensor.name, type=ir.TensorType(dtype), shape=value.shape, const_value=tensor)
            model.graph.register_initializer(cast)
            node.replace_input_with(position, cast)

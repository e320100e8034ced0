"""The most that the machine computes: square matrix products, in each type that networks are run in."""

from __future__ import annotations

from collections.abc import Callable, Collection
from functools import partial
from typing import Literal

import numpy as np
import onnxruntime as ort
import torch
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

SIDE = 2048
GFLOP = 2 * SIDE**3 / 1e9

Type = Literal["fp32", "bf16", "int8"]
Product = tuple[str, Type]


def products(types: Collection[Type], threads: int) -> dict[Product, Callable[[], object]]:
    """Return functions that multiply two matrices of SIDE x SIDE, GFLOP operations, by library and type.

    fp32 is torch.mm (MKL) and a MatMul of ONNX Runtime (MLAS): the faster of them counts, for MKL is slow on CPUs that
    are not Intel's. bf16 is torch.mm and int8 torch._int_mm with its int32 sums (both oneDNN). On a CPU without
    instructions for bf16 its product is converted to float32 piece by piece, and no measure of anything.

    Args:
        types: Those that are wanted.
        threads: Of ONNX Runtime; torch has its own setting.
    """
    a, b = torch.randn(2, SIDE, SIDE)
    a16, b16 = a.bfloat16(), b.bfloat16()
    a8, b8 = torch.randint(-127, 128, (2, SIDE, SIDE), dtype=torch.int8)
    every: dict[Product, Callable[[], object]] = {
        ("torch", "fp32"): partial(torch.mm, a, b),
        ("onnxruntime", "fp32"): _onnxruntime_product(a.numpy(), b.numpy(), threads),
        ("torch", "bf16"): partial(torch.mm, a16, b16),
        ("torch", "int8"): partial(torch._int_mm, a8, b8),
    }
    return {product: run for product, run in every.items() if product[1] in types}


def _onnxruntime_product(a: NDArray[np.float32], b: NDArray[np.float32], threads: int) -> Callable[[], object]:
    shape = [SIDE, SIDE]
    graph = helper.make_graph(
        [helper.make_node("MatMul", ["a", "b"], ["product"])],
        "product",
        [helper.make_tensor_value_info("a", TensorProto.FLOAT, shape)],
        [helper.make_tensor_value_info("product", TensorProto.FLOAT, shape)],
        [numpy_helper.from_array(b, "b")],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10)
    options = ort.SessionOptions()
    options.intra_op_num_threads = threads
    session = ort.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
    return partial(session.run, ["product"], {"a": a})

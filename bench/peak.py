"""The most that the machine computes: square matrix products, in each type that networks are run in."""

from __future__ import annotations

from collections.abc import Callable, Collection
from functools import partial
from typing import Literal

import numpy as np
import openvino as ov
import torch
from numpy.typing import NDArray
from openvino import opset15 as ops

SIDE = 2048
GFLOP = 2 * SIDE**3 / 1e9

Type = Literal["fp32", "bf16", "int8"]
Product = tuple[str, Type]


def products(types: Collection[Type], threads: int) -> dict[Product, Callable[[], object]]:
    """Return functions that multiply two matrices of SIDE x SIDE, GFLOP operations, by library and type.

    fp32 is torch.mm (MKL) and a MatMul of OpenVINO (oneDNN): the faster of them counts, for MKL is slow on CPUs that
    are not Intel's. bf16 is torch.mm and int8 torch._int_mm with its int32 sums (both oneDNN). On a CPU without
    instructions for bf16 its product is converted to float32 piece by piece, and no measure of anything.

    Args:
        types: Those that are wanted.
        threads: Of OpenVINO; torch has its own setting.
    """
    a, b = torch.randn(2, SIDE, SIDE)
    a16, b16 = a.bfloat16(), b.bfloat16()
    a8, b8 = torch.randint(-127, 128, (2, SIDE, SIDE), dtype=torch.int8)
    every: dict[Product, Callable[[], object]] = {
        ("torch", "fp32"): partial(torch.mm, a, b),
        ("openvino", "fp32"): _openvino_product(a.numpy(), b.numpy(), threads),
        ("torch", "bf16"): partial(torch.mm, a16, b16),
        ("torch", "int8"): partial(torch._int_mm, a8, b8),
    }
    return {product: run for product, run in every.items() if product[1] in types}


def _openvino_product(a: NDArray[np.float32], b: NDArray[np.float32], threads: int) -> Callable[[], object]:
    parameter = ops.parameter(a.shape, np.float32)
    model = ov.Model([ops.matmul(parameter, ops.constant(b), False, False)], [parameter])
    options = {"INFERENCE_PRECISION_HINT": "f32", "INFERENCE_NUM_THREADS": threads}
    request = ov.Core().compile_model(model, "CPU", options).create_infer_request()
    return partial(request.infer, [a])

"""The most that the machine computes: square matrix products of torch, in each type that networks are run in."""

from __future__ import annotations

from collections.abc import Callable, Collection
from typing import Literal

import torch

SIDE = 2048
GFLOP = 2 * SIDE**3 / 1e9

Type = Literal["fp32", "bf16", "int8"]


def products(types: Collection[Type]) -> dict[Type, Callable[[], object]]:
    """Return for each of the types a function that multiplies two matrices of SIDE x SIDE, GFLOP operations.

    fp32 and bf16 are torch.mm (MKL and oneDNN), int8 is torch._int_mm with its int32 sums (oneDNN). On a CPU without
    instructions for bf16 its product is converted to float32 piece by piece, and no measure of anything.
    """
    a, b = torch.randn(2, SIDE, SIDE)
    a16, b16 = a.bfloat16(), b.bfloat16()
    a8, b8 = torch.randint(-127, 128, (2, SIDE, SIDE), dtype=torch.int8)
    every: dict[Type, Callable[[], object]] = {
        "fp32": lambda: torch.mm(a, b),
        "bf16": lambda: torch.mm(a16, b16),
        "int8": lambda: torch._int_mm(a8, b8),
    }
    return {kind: product for kind, product in every.items() if kind in types}

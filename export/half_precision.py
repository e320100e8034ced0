"""Networks in half precision, cast in torch: all but what would overflow or lose its meaning, or no engine takes."""

from __future__ import annotations

import copy
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from typing import Any, TypeVar

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from export.errors import ExportError

# Functions that sum squares or exponentials, by torch's names.
SENSITIVE = ("layer_norm", "softmax", "log_softmax", "logsumexp")
# Functions that cannot be in bfloat16: TensorRT-RTX 1.7.1 builds no engine of transposed convolutions, and ONNX's TopK
# takes it from operator set 24 on, which is newer than that of our files.
NOT_IN_BFLOAT16 = ("conv_transpose2d", "topk")

# Layers that logits come out of, by what their names end with. Were logits rounded, classes that are nearly as likely
# would be equal.
HEADS = ("head", "aux_head", "head.projection", "mlp_head.0", "decode_head.conv_seg")

NetworkT = TypeVar("NetworkT", bound=nn.Module)


def converted(network: NetworkT, dtype: torch.dtype) -> NetworkT:
    """Return a copy of a network with parameters and buffers of type `dtype`, except those of LayerNorms and heads.

    Raises:
        ExportError: A value is too large for the type.
    """
    network = copy.deepcopy(network)
    for name, module in network.named_modules():
        if isinstance(module, nn.LayerNorm) or f".{name}".endswith(tuple(f".{head}" for head in HEADS)):
            continue
        for key, value in (*module.named_parameters(recurse=False), *module.named_buffers(recurse=False)):
            if value.is_floating_point():
                value.data = value.data.to(dtype)
                if not value.isfinite().all():
                    raise ExportError(f"{name}.{key} has values that {dtype} cannot hold: choose bf16 or fp32")
    return network


def sensitive_in_float32(dtype: torch.dtype) -> AbstractContextManager[Any]:
    """Return a context in which functions that are not for `dtype` compute in float32 and give `dtype` back.

    Layers whose weights are float32 take inputs of `dtype`, compute in float32 and give float32.
    """
    return nullcontext() if dtype == torch.float32 else _SensitiveInFloat32(dtype)


class _SensitiveInFloat32(TorchFunctionMode):
    def __init__(self, dtype: torch.dtype) -> None:
        super().__init__()
        self._dtype = dtype
        self._functions = (*SENSITIVE, *(NOT_IN_BFLOAT16 if dtype == torch.bfloat16 else ()))

    def __torch_function__(
        self, func: Callable[..., Any], types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        kwargs = kwargs or {}
        name = getattr(func, "__name__", None)
        if name in ("linear", "conv2d") and args[1].dtype == torch.float32:
            return func(args[0].float(), *args[1:], **kwargs)
        if name not in self._functions:
            return func(*args, **kwargs)
        args = _cast(args, torch.float32)
        return _cast(func(*args, **{key: _cast(value, torch.float32) for key, value in kwargs.items()}), self._dtype)


def _cast(value: Any, dtype: torch.dtype) -> Any:
    """Return `value`, or each of a tuple's, as type `dtype` if it is a tensor of floating point."""
    if isinstance(value, tuple):
        return tuple(_cast(part, dtype) for part in value)
    return value.to(dtype) if isinstance(value, Tensor) and value.is_floating_point() else value

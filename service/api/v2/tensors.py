"""Tensors of an answer, as JSON numbers or as binary data."""

from __future__ import annotations

import json
import struct
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from service.api.delivery import DeliveredResponse
from service.errors import BadParameterError

HEADER_LENGTH = "Inference-Header-Content-Length"
DATATYPES = {"uint8": "UINT8", "float32": "FP32"}
# What one value takes in JSON at most, its comma included.
_JSON_BYTES = {"UINT8": 4, "FP32": 26}
# Values that are written at a time: while they are, nothing else runs in the process, whatever thread this is.
_JSON_PART = 10_000


@dataclass(frozen=True)
class BytesTensor:
    """A tensor of byte strings, row-major."""

    shape: tuple[int, ...]
    elements: Sequence[bytes]


Value = NDArray[Any] | BytesTensor


@dataclass(frozen=True)
class OutputTensor:
    """One tensor of an answer, and whether it is wanted as binary data."""

    name: str
    value: Value
    binary: bool


def encode_elements(elements: Sequence[bytes]) -> bytes:
    """Return byte strings as binary data: each with its length before it, four bytes, little-endian."""
    return b"".join(part for element in elements for part in (struct.pack("<I", len(element)), element))


def infer_response(fields: dict[str, Any], outputs: Sequence[OutputTensor], max_json_bytes: int) -> DeliveredResponse:
    """Return an answer with those tensors, and with `fields` before them.

    Raises:
        BadParameterError: A tensor is too large for JSON.
    """
    described: list[str] = []
    binary: list[bytes | memoryview] = []
    for output in outputs:
        tensor: dict[str, Any] = {
            "name": output.name,
            "datatype": _datatype(output.value),
            "shape": list(output.value.shape),
        }
        if output.binary:
            content = _binary(output.value)
            tensor["parameters"] = {"binary_data_size": len(content)}
            binary.append(content)
            described.append(_json(tensor))
        else:
            described.append(_with_items({**tensor, "data": []}, _json_values(output, max_json_bytes)))
    head = _with_items({**fields, "outputs": []}, ",".join(described)).encode()
    if not any(output.binary for output in outputs):
        return DeliveredResponse(head, media_type="application/json")
    return DeliveredResponse(
        head, *binary, media_type="application/octet-stream", headers={HEADER_LENGTH: str(len(head))}
    )


def _json(value: Any) -> str:
    return json.dumps(value, allow_nan=False, separators=(",", ":"))


def _with_items(fields: dict[str, Any], items: str) -> str:
    """Return the JSON of `fields`, whose last one is an empty list, with `items` in that list."""
    return f"{_json(fields)[:-2]}{items}]}}"


def _datatype(value: Value) -> str:
    return "BYTES" if isinstance(value, BytesTensor) else DATATYPES[value.dtype.name]


def _binary(value: Value) -> bytes | memoryview:
    if isinstance(value, BytesTensor):
        return encode_elements(value.elements)
    little_endian = np.ascontiguousarray(value, value.dtype.newbyteorder("<"))
    return little_endian.reshape(-1).view(np.uint8).data


def _json_values(output: OutputTensor, max_json_bytes: int) -> str:
    """Return what stands between the brackets of a tensor's data."""
    value = output.value
    if isinstance(value, BytesTensor):
        return _json([element.decode() for element in value.elements])[1:-1]
    if value.size * _JSON_BYTES[_datatype(value)] > max_json_bytes:
        raise BadParameterError(
            f"output `{output.name}` has {value.size} values, too many for {max_json_bytes} bytes of JSON: "
            'ask for it with the parameter "binary_data": true'
        )
    flat = np.ravel(value)
    parts = (flat[begin : begin + _JSON_PART].tolist() for begin in range(0, flat.size, _JSON_PART))
    return ",".join(_json(part)[1:-1] for part in parts)

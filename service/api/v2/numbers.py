"""Tensors that are lists of numbers in a request's JSON, read from its text by numpy.

A parser would make an object of each number, for a request within the limits over 200 ms without letting anything else
run. Here no step takes more than a few, however the text is made.
"""

from __future__ import annotations

from math import prod
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pydantic_core import to_json

from service.errors import BadParameterError

# Of a request, which has a few dozen names and at most as many encoded files as it may have views.
_MAX_QUOTES = 4000
# Beside texts and what is taken out.
_MAX_OTHER_BYTES = 1 << 17

_BLANKS = b" \t\r\n"
_IN_LISTS = np.isin(np.arange(256), list(_BLANKS + b"[,]0123456789"))


def take_out_numbers(content: bytes | bytearray) -> tuple[bytes, bytes | None]:
    """Return a request's JSON with `true` in place of the first list called "data" that could be one of numbers.

    Beside it, the text of that list; None: there is none. Whether that is well formed, `values_from_json` looks at.

    Raises:
        BadParameterError: There are very many texts, or there is very much beside texts and the list.
    """
    if (quotes := content.count(b'"')) > _MAX_QUOTES:
        raise BadParameterError(
            f"the request has {quotes} quotation marks; the limit is {_MAX_QUOTES}: leave some out, and give values as "
            "whole numbers or as binary data"
        )
    pieces = bytes(content).split(b'"')
    numbers: bytes | None = None
    other, before, in_text = 0, b"", False
    for index, piece in enumerate(pieces):
        if in_text:
            # A quotation mark behind an odd number of backslashes is part of the text.
            in_text = (len(piece) - len(piece.rstrip(b"\\"))) % 2 == 1
            before = piece
            continue
        if numbers is None and before == b"data" and (found := _list_in(piece)):
            numbers = piece[found]
            pieces[index] = piece = piece[: found.start] + b"true" + piece[found.stop :]
        other += len(piece)
        in_text = True
    if other > _MAX_OTHER_BYTES:
        raise BadParameterError(
            f"the request has {other} bytes of JSON beside its texts and its tensor's whole numbers; the limit is "
            f"{_MAX_OTHER_BYTES}: leave some out, or send the tensor as binary data"
        )
    return b'"'.join(pieces), numbers


def _list_in(piece: bytes) -> slice | None:
    """Return where, in what follows a name up to the next text, the list is that is its value; None: there is none.

    A list with texts or objects in it does not end there, and so is none.
    """
    begin = piece.find(b"[")
    # The end of the object that has the name.
    close = piece.find(b"}")
    end = piece.rfind(b"]", 0, close if close >= 0 else len(piece)) + 1
    if not 0 < begin < end or piece[:begin].strip() != b":":
        return None
    if piece.count(b"[", begin, end) != piece.count(b"]", begin, end) or piece.count(b"{", begin, end):
        return None
    return slice(begin, end)


def values_from_json(data: Any, shape: tuple[int, ...], where: str) -> NDArray[np.uint8]:
    """Return the values of a tensor that are in the JSON, nested as its shape says or flat.

    Args:
        data: The list, or its text.
        shape: Of the tensor.
        where: The tensor, for messages.

    Raises:
        BadParameterError: They are not whole numbers from 0 to 255, or not as many as the shape says.
    """
    if isinstance(data, list):
        data = to_json(data)
    if not isinstance(data, bytes):
        raise BadParameterError(f"{where}: data must be a list")
    wrong = f"{where}: data must be whole numbers from 0 to 255, flat or nested as the shape says"
    codes = np.frombuffer(data, np.uint8)
    if not data.startswith(b"[") or not _IN_LISTS[codes].all():
        raise BadParameterError(wrong)
    # Of what is no digit it is more than nine.
    digits = codes - np.uint8(ord("0"))
    is_digit = digits <= 9
    is_continued = is_digit[:-1] & is_digit[1:]
    goes_on = np.append(is_continued, False)
    begins_before = np.append(False, is_continued)
    ends = np.flatnonzero(is_digit & ~goes_on)
    if len(ends) != prod(shape):
        raise BadParameterError(f"{where} of shape {list(shape)} has {len(ends)} values")
    has_tens = begins_before[ends]
    has_hundreds = has_tens & begins_before[ends - 1]
    is_longer = has_hundreds & begins_before[ends - 2]
    values = digits[ends].astype(np.uint16)
    values += 10 * np.where(has_tens, digits[ends - 1], 0).astype(np.uint16)
    values += 100 * np.where(has_hundreds, digits[ends - 2], 0).astype(np.uint16)
    begins_with_zero = (has_tens & (values < 10)) | (has_hundreds & (values < 100))
    if (is_longer | (values > 255) | begins_with_zero).any():
        raise BadParameterError(wrong)
    # What is left when every number is one digit.
    kept = ~begins_before & ~np.isin(codes, list(_BLANKS))
    skeleton = np.where(is_digit, np.uint8(ord("0")), codes)[kept].tobytes()
    if skeleton != _skeleton(shape) and skeleton != _skeleton((prod(shape),)):
        raise BadParameterError(wrong)
    return values.astype(np.uint8).reshape(shape)


def _skeleton(shape: tuple[int, ...]) -> bytes:
    """Return zeros of that shape as JSON."""
    text = b"0"
    for length in reversed(shape):
        text = b"[" + ((text + b",") * length)[:-1] + b"]"
    return text

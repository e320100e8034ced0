"""Read the size of a BMP picture (Microsoft, [MS-WMF] 2.2.2.9: DeviceIndependentBitmap Object)."""

from __future__ import annotations

import struct
from typing import BinaryIO

_FILE_HEADER_BYTES = 14
_CORE_HEADER_BYTES = 12


def size(file: BinaryIO) -> tuple[int, int]:
    """Return width and height as the header says; zeros if it is cut short."""
    file.seek(_FILE_HEADER_BYTES)
    header = file.read(12).ljust(12, b"\0")
    if int.from_bytes(header[:4], "little") == _CORE_HEADER_BYTES:
        width, height = struct.unpack("<4xHH4x", header)
    else:
        # The height is negative where the rows come from top to bottom.
        width, height = struct.unpack("<4xii", header)
    return abs(width), abs(height)

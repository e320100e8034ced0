"""Read the one EXIF tag that decoding needs (TIFF 6.0, section 2; CIPA DC-008, 4.6.5).

A library that reads them all can be kept busy by a few hostile bytes.
"""

from __future__ import annotations

import struct

_ORIENTATION = 0x0112
_BYTE_ORDERS = {b"II": "<", b"MM": ">"}
# By TIFF's number of the type: how the value is packed. The standard says SHORT; some writers use LONG.
_TYPES = {3: "H", 4: "I"}


def orientation_tag(exif: bytes) -> int | None:
    """Return the value of the orientation tag; None if there is none, or the data are damaged before it."""
    # WebP files have the prefix of JPEG's segments, or not.
    tiff = exif.removeprefix(b"Exif\0\0")
    order = _BYTE_ORDERS.get(tiff[:2])
    if order is None:
        return None
    try:
        (directory,) = struct.unpack_from(f"{order}I", tiff, 4)
        (count,) = struct.unpack_from(f"{order}H", tiff, directory)
        for entry in range(directory + 2, directory + 2 + 12 * count, 12):
            tag, kind = struct.unpack_from(f"{order}HH", tiff, entry)
            if tag == _ORIENTATION and kind in _TYPES:
                (value,) = struct.unpack_from(f"{order}{_TYPES[kind]}", tiff, entry + 8)
                return int(value)
    except struct.error:
        pass
    return None

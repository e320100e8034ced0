"""Look through the chunks of a WebP file without decoding it (RFC 9649, section 2)."""

from __future__ import annotations

import struct
from typing import BinaryIO

from service.errors import UnsupportedMediaError

_HEAD_BYTES = 12
# A still picture has fewer than ten; a hostile file may hold millions.
_MOST_CHUNKS = 1024
_MOST_EXIF_BYTES = 1 << 16
_ANIMATION = 0x02


def check_still(file: BinaryIO) -> None:
    """Refuse an animation, which FFmpeg does not decode.

    Raises:
        UnsupportedMediaError: It is one.
    """
    file.seek(_HEAD_BYTES)
    kind, _, flags = struct.unpack("<4sIB", file.read(9).ljust(9, b"\0"))
    if kind == b"VP8X" and flags & _ANIMATION:
        raise UnsupportedMediaError("animated WebP is not decoded: send a GIF, an animated PNG or a video")


def exif(file: BinaryIO) -> bytes:
    """Return the content of the picture's EXIF chunk, or the first 64 KiB of it; nothing if there is none."""
    position = _HEAD_BYTES
    for _ in range(_MOST_CHUNKS):
        file.seek(position)
        head = file.read(8)
        if len(head) < 8:
            break
        kind, length = struct.unpack("<4sI", head)
        if kind == b"EXIF":
            return file.read(min(length, _MOST_EXIF_BYTES))
        # Chunks begin at even places.
        position += 8 + length + length % 2
    return b""

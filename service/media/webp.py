"""Look through the chunks of a WebP file without decoding it (RFC 9649, section 2)."""

from __future__ import annotations

import struct
from collections.abc import Iterator
from typing import BinaryIO

from service.errors import UnsupportedMediaError

_HEAD_BYTES = 12
# A still picture has fewer than ten; a hostile file may hold millions.
_MOST_CHUNKS = 1024
_MOST_EXIF_BYTES = 1 << 16
_ANIMATION = 0x02
_SIDE_BITS = 14
_SIDE = (1 << _SIDE_BITS) - 1


def check_still(file: BinaryIO) -> None:
    """Refuse an animation, which FFmpeg does not decode.

    Raises:
        UnsupportedMediaError: It is one.
    """
    file.seek(_HEAD_BYTES)
    kind, _, flags = struct.unpack("<4sIB", file.read(9).ljust(9, b"\0"))
    if kind == b"VP8X" and flags & _ANIMATION:
        raise UnsupportedMediaError("animated WebP is not decoded: send a GIF, an animated PNG or a video")


def size(file: BinaryIO) -> tuple[int, int]:
    """Return width and height as the compressed picture itself says; zeros if there is none."""
    for kind, _, position in _chunks(file):
        file.seek(position)
        if kind == b"VP8 ":
            # Behind the tag of the frame and the start code (RFC 6386, 9.1); the upper bits are for scaling.
            width, height = struct.unpack("<6xHH", file.read(10).ljust(10, b"\0"))
            return width & _SIDE, height & _SIDE
        if kind == b"VP8L":
            # Behind the signature (RFC 9649, 3.4).
            (sides,) = struct.unpack("<xI", file.read(5).ljust(5, b"\0"))
            return (sides & _SIDE) + 1, (sides >> _SIDE_BITS & _SIDE) + 1
    return 0, 0


def exif(file: BinaryIO) -> bytes:
    """Return the content of the picture's EXIF chunk, or the first 64 KiB of it; nothing if there is none."""
    for kind, length, position in _chunks(file):
        if kind == b"EXIF":
            file.seek(position)
            return file.read(min(length, _MOST_EXIF_BYTES))
    return b""


def _chunks(file: BinaryIO) -> Iterator[tuple[bytes, int, int]]:
    """Yield kind, length and place of the content of each chunk, up to _MOST_CHUNKS."""
    position = _HEAD_BYTES
    for _ in range(_MOST_CHUNKS):
        file.seek(position)
        head = file.read(8)
        if len(head) < 8:
            return
        kind, length = struct.unpack("<4sI", head)
        yield kind, length, position + 8
        # Chunks begin at even places.
        position += 8 + length + length % 2

"""Look through the chunks of a PNG file without decoding it (PNG specification, third edition, chapters 5 and 11)."""

from __future__ import annotations

import struct
from collections.abc import Iterator
from math import ceil
from typing import BinaryIO, NamedTuple

from service.errors import MediaLimitError

# Enough for any upload in the chunks of 8 KiB that the common library writes; a hostile file may hold millions.
MOST_CHUNKS = 1 << 16
_SIGNATURE_BYTES = 8
_MOST_EXIF_BYTES = 1 << 16
_SAMPLES_A_PIXEL = {0: 1, 2: 3, 3: 1, 4: 2, 6: 4}  # by colour type


class Chunk(NamedTuple):
    """A chunk's kind, the bytes of its content, and where that begins."""

    kind: bytes
    length: int
    position: int


def chunks(file: BinaryIO) -> Iterator[Chunk]:
    """Yield the chunks of a PNG file up to its IEND, or to where the file is cut short.

    Raises:
        MediaLimitError: There are more than MOST_CHUNKS.
    """
    position = _SIGNATURE_BYTES
    for _ in range(MOST_CHUNKS):
        file.seek(position)
        head = file.read(8)
        if len(head) < 8:
            return
        length, kind = struct.unpack(">I4s", head)
        yield Chunk(kind, length, position + 8)
        if kind == b"IEND":
            return
        position += 8 + length + 4  # length and kind, content, checksum
    raise MediaLimitError(f"the PNG has more than {MOST_CHUNKS} chunks: save the picture again")


def check_data(file: BinaryIO) -> None:
    """Refuse a picture with far more compressed data than its size needs: the decoder would inflate it to the end.

    Raises:
        MediaLimitError: Too much data, or too many chunks.
    """
    width = height = most = compressed = 0
    for kind, length, position in chunks(file):
        if kind == b"IHDR" and not most:
            file.seek(position)
            width, height, depth, colour = struct.unpack(">IIBB", file.read(10).ljust(10, b"\0"))
            most = _most_compressed(width, height, depth * _SAMPLES_A_PIXEL.get(colour, 4))
        compressed += length if kind == b"IDAT" else 0
    if compressed > most > 0:
        raise MediaLimitError(
            f"a PNG of {width}x{height} needs {most} bytes of compressed data at most; the upload has {compressed}: "
            "save the picture again"
        )


def _most_compressed(width: int, height: int, bits_a_pixel: int) -> int:
    """Return the bytes that the worst encoder makes of a picture: nothing compressed, and a block or two for each row.

    Interlacing doubles the rows, each with a byte for its filter, at most.
    """
    rows = 2 * height + 7
    raw = ceil(width * bits_a_pixel / 8) * height + 2 * rows
    return raw + raw // 8 + 16 * rows + 1024


def exif(file: BinaryIO) -> bytes:
    """Return the content of the picture's eXIf chunk, which may come last; nothing if there is none.

    Raises:
        MediaLimitError: There are more than MOST_CHUNKS.
    """
    for kind, length, position in chunks(file):
        if kind == b"eXIf" and length <= _MOST_EXIF_BYTES:
            file.seek(position)
            return file.read(length)
    return b""

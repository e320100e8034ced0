"""Look through the chunks of a PNG file without decoding it (PNG specification, third edition, chapters 5 and 11)."""

from __future__ import annotations

import struct
import zlib
from collections.abc import Iterator
from math import ceil
from typing import BinaryIO, NamedTuple

from service.errors import MediaLimitError

# Enough for any upload in the chunks of 8 KiB that the common library writes; a hostile file may hold millions.
MOST_CHUNKS = 1 << 16
# Programs write a dozen; the decoder looks through all that it has for each further one.
MOST_TEXTS = 1024
# The largest colour profiles have 4 MB; the decoder inflates whatever there is, to a thousand times the upload.
MOST_INFLATED_BYTES = 1 << 24
_SIGNATURE_BYTES = 8
_MOST_EXIF_BYTES = 1 << 16
_PIECE_BYTES = 1 << 10
_LARGEST_RATIO = 1032  # of deflate: 258 bytes by two bits
_TEXTS = (b"tEXt", b"zTXt", b"iTXt")
# What the decoder inflates beside pixels: a name, a zero, the number of the method, compressed data.
_COMPRESSED = (b"zTXt", b"iCCP")
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


def is_animated(file: BinaryIO) -> bool:
    """Tell whether the file is an animation: by its control chunk, which stands before the first image data.

    Raises:
        MediaLimitError: There are more than MOST_CHUNKS.
    """
    return next((kind == b"acTL" for kind, _, _ in chunks(file) if kind in (b"acTL", b"IDAT")), False)


def size(file: BinaryIO) -> tuple[int, int]:
    """Return width and height as the header says; zeros if there is none.

    Raises:
        MediaLimitError: There are more than MOST_CHUNKS.
    """
    for kind, _, position in chunks(file):
        if kind == b"IHDR":
            file.seek(position)
            width, height = struct.unpack(">II", file.read(8).ljust(8, b"\0"))
            return width, height
    return 0, 0


def check_data(file: BinaryIO, animated: bool) -> None:
    """Refuse a picture with far more compressed data than its size needs: the decoder would inflate it to the end.

    Each frame of an animation may have as much.

    Raises:
        MediaLimitError: Too much data, or too many chunks.
    """
    width = height = most = compressed = 0
    for kind, length, position in chunks(file):
        if kind == b"IHDR" and not most:
            file.seek(position)
            width, height, depth, colour = struct.unpack(">IIBB", file.read(10).ljust(10, b"\0"))
            most = _most_compressed(width, height, depth * _SAMPLES_A_PIXEL.get(colour, 4))
        elif kind == b"fcTL" and animated:
            compressed = 0
        elif kind in (b"IDAT", b"fdAT"):
            compressed += length
        if compressed > most > 0:
            raise MediaLimitError(
                f"a PNG of {width}x{height} needs {most} bytes of compressed data at most; the upload has "
                f"{compressed} or more: save the picture again"
            )


def check_extras(file: BinaryIO) -> None:
    """Refuse a picture whose texts and colour profiles take the decoder longer than its pixels may.

    Raises:
        MediaLimitError: Too many texts, too much compressed data, or too many chunks.
    """
    texts = inflated = 0
    for chunk in chunks(file):
        texts += chunk.kind in _TEXTS
        if texts > MOST_TEXTS:
            raise MediaLimitError(f"the PNG has more than {MOST_TEXTS} texts: save the picture without them")
        if chunk.kind in _COMPRESSED:
            inflated += _inflated_bytes(file, chunk, MOST_INFLATED_BYTES - inflated)
            if inflated > MOST_INFLATED_BYTES:
                raise MediaLimitError(
                    f"the PNG's texts and colour profiles have more than {MOST_INFLATED_BYTES} bytes when they are "
                    "inflated: save the picture without them"
                )


def _inflated_bytes(file: BinaryIO, chunk: Chunk, most: int) -> int:
    """Return the bytes that a chunk's compressed data become; beyond `most` they are not counted."""
    # Deflated data are hardly ever larger than what they become.
    if chunk.length > most:
        return most + 1
    file.seek(chunk.position)
    _, _, method_and_data = file.read(chunk.length).partition(b"\0")
    data = memoryview(method_and_data)[1:]
    inflater = zlib.decompressobj()
    inflated = at = 0
    while at < len(data) and inflated <= most and not inflater.eof:
        try:
            inflated += len(inflater.decompress(data[at : at + _PIECE_BYTES], most + 1 - inflated))
        except zlib.error:
            # How much the piece became before it broke is not told.
            return inflated + _PIECE_BYTES * _LARGEST_RATIO
        at += _PIECE_BYTES
    return inflated


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

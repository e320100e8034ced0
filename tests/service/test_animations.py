"""Animated pictures of a few bytes a frame on a large canvas, and as many frames on a small one."""

import io
import struct
import zlib

import pytest
from PIL import Image

from service.errors import MediaLimitError
from tests.service.uploads import Decode


def gif(frames: int, side: int) -> bytes:
    """Return an animation whose every frame changes one pixel of a square canvas (GIF89a)."""
    file = io.BytesIO()
    Image.new("L", (1, 1)).save(file, "GIF")
    picture = file.getvalue()
    pixel = b"\x21\xf9\x04\0\x04\0\0\0" + picture[picture.index(b"\x2c") : -1]
    return b"GIF89a" + struct.pack("<HHBBB", side, side, 0x80, 0, 0) + bytes(6) + pixel * frames + b";"


def chunk(kind: bytes, content: bytes) -> bytes:
    return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))


def apng(frames: int, side: int) -> bytes:
    """Return the same as a PNG of black pixels."""
    parts = [
        chunk(b"IHDR", struct.pack(">IIBBBBB", side, side, 8, 0, 0, 0, 0)),
        chunk(b"acTL", struct.pack(">II", frames, 0)),
    ]
    whole, pixel = zlib.compress(bytes((side + 1) * side)), zlib.compress(bytes(2))
    for number in range(frames):
        order = struct.pack(">I", max(0, 2 * number - 1))
        size = (1, 1) if number else (side, side)
        parts.append(chunk(b"fcTL", order + struct.pack(">IIIIHHBB", *size, 0, 0, 1, 30, 0, 0)))
        parts.append(chunk(b"fdAT", struct.pack(">I", 2 * number) + pixel) if number else chunk(b"IDAT", whole))
    return b"".join([b"\x89PNG\r\n\x1a\n", *parts, chunk(b"IEND", b"")])


@pytest.mark.parametrize("content", [gif(9000, 4000), apng(9000, 4000)], ids=["GIF", "APNG"])
def test_large_canvas_that_is_drawn_thousands_of_times_is_refused(decode: Decode, content: bytes) -> None:
    assert len(content) < 1 << 20
    with pytest.raises(MediaLimitError, match=r"9000 frames of 4000x4000 are 144000000000 pixels to draw.*4294967296"):
        decode(content)


@pytest.mark.parametrize("content", [gif(9000, 16), apng(9000, 16)], ids=["GIF", "APNG"])
def test_small_canvas_may_be_drawn_as_often(decode: Decode, content: bytes) -> None:
    assert decode(content).result.media.frames == 9000


@pytest.mark.parametrize("content", [gif(50, 4000), apng(50, 4000)], ids=["GIF", "APNG"])
def test_large_canvas_may_be_drawn_some_times(decode: Decode, content: bytes) -> None:
    assert decode(content).result.media.frames == 50

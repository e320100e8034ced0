"""Animated pictures: how they are told from still ones, and those of a few bytes a frame on a canvas of any size."""

import io
import struct
import zlib

import numpy as np
import pytest
from PIL import Image
from PIL.PngImagePlugin import PngInfo

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


@pytest.mark.parametrize(
    "before",
    [
        {},
        {"icc_profile": np.random.default_rng(0).bytes(6000)},
        {"exif": b"Exif\0\0II*\0\x08\0\0\0\0\0" + bytes(6000)},
    ],
    ids=["nothing", "profile", "EXIF"],
)
def test_animated_png_is_known_whatever_stands_before_its_frames(decode: Decode, before: dict[str, bytes]) -> None:
    first, *others = (Image.new("L", (20, 20), shade) for shade in range(0, 240, 20))
    file = io.BytesIO()
    first.save(file, "PNG", save_all=True, append_images=others, duration=40, **before)
    media = decode(file.getvalue()).result.media
    assert (media.kind, media.format, media.frames) == ("video", "apng", 12)


def test_still_png_that_speaks_of_animations_is_a_picture(decode: Decode) -> None:
    text = PngInfo()
    text.add_text("Comment", "without an acTL chunk")
    file = io.BytesIO()
    Image.new("L", (20, 20)).save(file, "PNG", pnginfo=text)
    media = decode(file.getvalue()).result.media
    assert (media.kind, media.format, media.frames) == ("image", "png", 1)

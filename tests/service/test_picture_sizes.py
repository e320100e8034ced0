"""Pictures and videos of more pixels than the limit: refused for that, and never called damaged."""

import io
import struct
import zlib
from typing import Any

import numpy as np
import pytest
from PIL import Image

from service.errors import MediaLimitError
from tests.media import LIMITS, encode
from tests.service.uploads import Decode

# FFmpeg refuses these pictures itself: it makes room for some more than the limit, and not for so many.
SIDE = 5000
REASON = f"{SIDE}x{SIDE} is {SIDE**2} pixels; the limit is {LIMITS.max_pixels}: send a smaller picture"


def picture(kind: str, mode: str = "L", **options: Any) -> bytes:
    file = io.BytesIO()
    Image.new(mode, (SIDE, SIDE)).save(file, kind, **options)
    return file.getvalue()


def with_core_header(bmp: bytes) -> bytes:
    """Return a BMP with the header of OS/2, of 12 bytes, in place of its own of 40."""
    return bmp[:14] + struct.pack("<IHHHH", 12, SIDE, SIDE, 1, 8) + bmp[54:]


def upside_down(bmp: bytes) -> bytes:
    """Return a BMP whose rows come from top to bottom."""
    return bmp[:22] + struct.pack("<i", -SIDE) + bmp[26:]


PICTURES = {
    "PNG": lambda: picture("PNG"),
    "animated PNG": lambda: picture("PNG", save_all=True, append_images=[Image.new("L", (SIDE, SIDE), 9)]),
    "JPEG": lambda: picture("JPEG"),
    "progressive JPEG": lambda: picture("JPEG", progressive=True),
    "JPEG with a preview": lambda: picture("JPEG", exif=b"Exif\0\0" + encode_preview()),
    "WebP": lambda: picture("WEBP", "RGB", quality=1, method=0),
    "WebP with transparency": lambda: picture("WEBP", "RGBA", quality=1, method=0),
    "lossless WebP": lambda: picture("WEBP", "RGB", lossless=True, quality=0, method=0),
    "GIF": lambda: picture("GIF"),
    "BMP": lambda: picture("BMP"),
    "BMP of OS/2": lambda: with_core_header(picture("BMP")),
    "BMP upside down": lambda: upside_down(picture("BMP")),
}


def encode_preview() -> bytes:
    file = io.BytesIO()
    Image.new("L", (160, 160)).save(file, "JPEG")
    return file.getvalue()


@pytest.mark.parametrize("kind", PICTURES)
def test_sound_picture_over_the_limit_of_pixels_is_told_so(decode: Decode, kind: str) -> None:
    with pytest.raises(MediaLimitError) as refused:
        decode(PICTURES[kind]())
    assert refused.value.detail == REASON


def test_header_of_a_png_that_claims_the_largest_size_is_told_so(decode: Decode) -> None:
    header = b"IHDR" + struct.pack(">IIBBBBB", 65535, 65535, 8, 2, 0, 0, 0)
    content = b"\x89PNG\r\n\x1a\n" + struct.pack(">I", 13) + header + struct.pack(">I", zlib.crc32(header))
    with pytest.raises(MediaLimitError, match="65535x65535 is 4294836225 pixels; the limit is 16777216"):
        decode(content)


@pytest.mark.parametrize(
    ("container", "codec"), [("mp4", "libx264"), ("mpegts", "libx264"), ("avi", "mpeg4"), ("mpegts", "mpeg2video")]
)
def test_video_over_the_limit_of_pixels_is_told_so(decode: Decode, container: str, codec: str) -> None:
    large = encode(np.zeros((1, SIDE, SIDE, 3), np.uint8), container, codec)
    with pytest.raises(MediaLimitError) as refused:
        decode(large)
    assert refused.value.detail == REASON

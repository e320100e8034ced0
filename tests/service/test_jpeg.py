"""JPEG files of countless segments, tables or scans, the most crowded ones that are sound, and their EXIF data."""

import io
import struct

import numpy as np
import pytest
from PIL import Image

from service.errors import MediaLimitError
from tests.service.uploads import Decode

PIXELS = np.random.default_rng(0).integers(0, 256, (40, 60, 3), dtype=np.uint8)


def jpeg(pixels: np.ndarray = PIXELS, **options: object) -> bytes:
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "JPEG", **options)
    return file.getvalue()


PICTURE = jpeg()


def segment(marker: int, content: bytes = b"") -> bytes:
    return struct.pack(">BBH", 0xFF, marker, len(content) + 2) + content


def with_segments(*segments: bytes, picture: bytes = PICTURE) -> bytes:
    """Return the picture with further segments at its beginning."""
    return b"".join([picture[:2], *segments, picture[2:]])


def first_segment(marker: bytes, picture: bytes) -> bytes:
    at = picture.index(marker)
    return picture[at : at + 2 + int.from_bytes(picture[at + 2 : at + 4], "big")]


QUANTISERS = first_segment(b"\xff\xdb", PICTURE)
CODES = first_segment(b"\xff\xc4", PICTURE)
FRAME = first_segment(b"\xff\xc0", PICTURE)


@pytest.mark.parametrize(
    "content",
    [
        with_segments(segment(0xEF) * 5000),
        with_segments(segment(0xFE) * 5000),
        with_segments(segment(0xE1, b"Exif\0\0MM") * 5000),
        with_segments(QUANTISERS * 5000),
        with_segments(segment(0xDD, b"\0\0") * 5000),
        with_segments(b"\xff\xd8" * 5000),
        # The decoder does not know this marker, and goes on with what seems to be its content.
        with_segments(segment(0xF0, CODES * 500) * 20),
        # The end of a picture before its beginning is none.
        with_segments(b"\xff\xd9" + QUANTISERS * 5000),
    ],
    ids=["application", "comments", "EXIF", "tables", "restart intervals", "beginnings", "unknown", "after an end"],
)
def test_countless_segments_are_refused(decode: Decode, content: bytes) -> None:
    with pytest.raises(MediaLimitError, match="the JPEG has more than 4096 segments: save the picture again"):
        decode(content)


@pytest.mark.parametrize("table", [QUANTISERS, CODES], ids=["quantisers", "codes"])
def test_countless_tables_in_few_segments_are_refused(decode: Decode, table: bytes) -> None:
    marker, content = table[1], table[4:]
    crowded = segment(marker, content * (60_000 // len(content)))
    with pytest.raises(MediaLimitError, match="the JPEG has more than 1048576 bytes of tables"):
        decode(with_segments(crowded * 20))


def test_second_frame_header_is_refused(decode: Decode) -> None:
    with pytest.raises(MediaLimitError, match="the JPEG has more than one frame header a picture"):
        decode(with_segments(FRAME))


def test_large_picture_of_countless_scans_is_refused(decode: Decode) -> None:
    picture = jpeg(np.zeros((2000, 3000, 3), np.uint8), progressive=True)
    last = picture[picture.rindex(b"\xff\xda") : -2]
    with pytest.raises(MediaLimitError, match=r"draws its 6000000 pixels in more than 178 scans.*not progressive"):
        decode(picture[:-2] + last * 200 + picture[-2:])


def test_sound_picture_with_all_that_programs_add_is_taken(decode: Decode) -> None:
    """A colour profile of 4 MB in 64 parts, Photoshop's data, XMP, a preview with its own frame, and a film behind."""
    profile = [segment(0xE2, b"ICC_PROFILE\0" + bytes([part, 64]) + bytes(65_000)) for part in range(1, 65)]
    photoshop = [segment(0xED, b"Photoshop 3.0\0" + bytes(60_000)) for _ in range(100)]
    exif = segment(0xE1, b"Exif\0\0" + PICTURE)
    xmp = [segment(0xE1, b"http://ns.adobe.com/xmp/extension/\0" + bytes(60_000)) for _ in range(100)]
    picture = jpeg(progressive=True, restart_marker_rows=1)
    noise = np.random.default_rng(1).integers(0, 256, 1 << 20, dtype=np.uint8).tobytes()
    loaded = with_segments(exif, *profile, *photoshop, *xmp, picture=picture) + PICTURE + noise
    assert np.array_equal(decode(loaded).arrays[0], decode(picture).arrays[0])


def test_sound_picture_of_hundreds_of_scans_is_taken(decode: Decode) -> None:
    picture = jpeg(progressive=True)
    # The last bits of the average of each block, which may come again and again.
    begin = picture.rindex(b"\xff\xda\0\x0c")
    scan = picture[begin : picture.index(b"\xff\xc4", begin)]
    assert decode(picture[:begin] + scan * 500 + picture[begin:]).result.media.width == 60


def exif(order: str, kind: str, value: int) -> bytes:
    """Return EXIF data with another tag and the orientation, of a type by its letter in `struct`."""
    number = {"H": 3, "I": 4}[kind]
    head = {"<": b"II", ">": b"MM"}[order] + struct.pack(f"{order}HI", 42, 8)
    entries = struct.pack(f"{order}HHII", 0x0100, 4, 1, 60) + struct.pack(f"{order}HHI{kind}", 0x0112, number, 1, value)
    return b"Exif\0\0" + head + struct.pack(f"{order}H", 2) + entries.ljust(24, b"\0") + bytes(4)


@pytest.mark.parametrize("kind", ["H", "I"])
@pytest.mark.parametrize("order", ["<", ">"])
def test_orientation_is_read_in_either_byte_order(decode: Decode, order: str, kind: str) -> None:
    media = decode(with_segments(segment(0xE1, exif(order, kind, 6)))).result.media
    assert (media.width, media.height, media.rotation) == (40, 60, 90)


@pytest.mark.parametrize(
    "damaged",
    [
        exif("<", "H", 9),
        exif("<", "H", 6)[:30],
        exif("<", "H", 6).replace(b"II*", b"XX*"),
        exif("<", "H", 6).replace(struct.pack("<I", 8), b"\xff" * 4),
        b"Exif\0\0",
    ],
    ids=["no such turn", "cut short", "no byte order", "directory elsewhere", "empty"],
)
def test_damaged_exif_data_leave_the_picture_as_it_is(decode: Decode, damaged: bytes) -> None:
    media = decode(with_segments(segment(0xE1, damaged))).result.media
    assert (media.width, media.height, media.rotation) == (60, 40, 0)

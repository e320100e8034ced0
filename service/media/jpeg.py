"""Look through the segments of a JPEG file without decoding it (ITU-T T.81, annex B)."""

from __future__ import annotations

import re
import struct
from collections.abc import Iterator
from typing import BinaryIO, NamedTuple

from service.errors import MediaLimitError

# A colour profile of 16 MB takes 256, as much as one can; Photoshop, cameras and progressive scans add some dozens.
MOST_SEGMENTS = 4096
# Each table has 273 bytes at most, and a scan uses 8 of them: enough for new ones before each of hundreds of scans.
MOST_TABLE_BYTES = 1 << 20
# Each scan walks over the whole picture, however few bytes it has: 20 for one of 50 million pixels, twice what encoders
# write, and more for smaller ones.
MOST_SCANNED_PIXELS = 1 << 30

_SOI, _EOI, _SOS, _APP1 = 0xD8, 0xD9, 0xDA, 0xE1
_TABLES = (0xC4, 0xDB)  # DHT, DQT
_FRAME_HEADERS = frozenset(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC}
# The decoder passes over the content of these alone; behind other markers it goes on with the next byte.
_WITH_CONTENT = _FRAME_HEADERS | {*_TABLES, _SOS, 0xDD, 0xFE, *range(0xE0, 0xF0)}  # DRI, COM, APPn
# Those that may stand within the data of a scan are left out.
_MARKER = re.compile(rb"\xff[\xc0-\xcf\xd8-\xfe]")
_BLOCK_BYTES = 1 << 14
_EXIF = b"Exif\0\0"


class Segment(NamedTuple):
    """A segment's marker, the bytes of its content, and where that begins."""

    marker: int
    length: int
    position: int


def segments(file: BinaryIO, pictures: int = 1) -> Iterator[Segment]:
    """Yield the segments of a JPEG file up to the end of so many pictures, or to where the file is cut short.

    Raises:
        MediaLimitError: There are more than MOST_SEGMENTS.
    """
    position = 0
    has_scan = False
    for _ in range(MOST_SEGMENTS):
        found = _next_marker(file, position)
        if found is None:
            return
        marker, position = found
        length = 0
        if marker in _WITH_CONTENT:
            file.seek(position)
            # The two bytes of the length count as well.
            length = max(0, int.from_bytes(file.read(2), "big") - 2)
            position += 2
        yield Segment(marker, length, position)
        position += length
        has_scan = has_scan or marker == _SOS
        if marker == _EOI and has_scan:
            has_scan = False
            pictures -= 1
            # What follows, such as a preview or a film, is no part of the picture.
            if not pictures:
                return
    raise MediaLimitError(f"the JPEG has more than {MOST_SEGMENTS} segments: save the picture again")


def _next_marker(file: BinaryIO, position: int) -> tuple[int, int] | None:
    """Return the next marker from `position` on and where it ends; None if there is none."""
    while True:
        file.seek(position)
        block = file.read(_BLOCK_BYTES)
        if found := _MARKER.search(block):
            return block[found.end() - 1], position + found.end()
        if len(block) < _BLOCK_BYTES:
            return None
        # The last byte may be the first one of a marker.
        position += len(block) - 1


def check_segments(file: BinaryIO, pictures: int = 1) -> None:
    """Refuse a picture, or the two fields of one, whose segments would keep the decoder busy beyond its size.

    Raises:
        MediaLimitError: Too many segments, tables, scans or frame headers.
    """
    table_bytes = scans = pixels = frames = 0
    for marker, length, position in segments(file, pictures):
        if marker in _FRAME_HEADERS:
            # No decoder takes a second one in a picture; FFmpeg makes room for a picture at each.
            frames += 1
            if frames > pictures:
                raise MediaLimitError("the JPEG has more than one frame header a picture: save the picture again")
            width, height = _stated_size(file, position)
            pixels = width * height
        elif marker in _TABLES:
            table_bytes += length
            if table_bytes > MOST_TABLE_BYTES:
                raise MediaLimitError(
                    f"the JPEG has more than {MOST_TABLE_BYTES} bytes of tables: save the picture again"
                )
        elif marker == _SOS:
            scans += 1
            if scans * pixels > MOST_SCANNED_PIXELS:
                raise MediaLimitError(
                    f"the JPEG draws its {pixels} pixels in more than {MOST_SCANNED_PIXELS // pixels} scans: save the "
                    "picture again, with fewer scans or not progressive"
                )


def size(file: BinaryIO) -> tuple[int, int]:
    """Return width and height as the first frame header says; zeros if there is none.

    Raises:
        MediaLimitError: There are more than MOST_SEGMENTS.
    """
    for marker, _, position in segments(file):
        if marker in _FRAME_HEADERS:
            return _stated_size(file, position)
    return 0, 0


def _stated_size(file: BinaryIO, position: int) -> tuple[int, int]:
    """Return width and height as the frame header at `position` says."""
    file.seek(position)
    height, width = struct.unpack(">xHH", file.read(5).ljust(5, b"\0"))
    return width, height


def exif(file: BinaryIO) -> bytes:
    """Return the picture's EXIF data, or the first 64 KiB of them; none if there are none.

    Raises:
        MediaLimitError: There are more than MOST_SEGMENTS.
    """
    for marker, length, position in segments(file):
        if marker == _SOS:
            break
        if marker == _APP1:
            file.seek(position)
            content = file.read(length)
            if content.startswith(_EXIF):
                return content.removeprefix(_EXIF)
    return b""

"""Look through the head of a Matroska or WebM file without reading it (RFC 9559; RFC 8794 for EBML)."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import BinaryIO, NamedTuple

from service.errors import MediaLimitError
from service.media.extent import check_extent

# Some dozens before the first cluster; a hostile file may hold millions of two bytes.
MOST_ELEMENTS = 1 << 16
# Statistics of each track, titles: some dozens. FFmpeg looks through all that it has for each further one.
MOST_TAGS = 4096

_SEGMENT, _CLUSTER, _SEEK_HEAD, _SEEK, _SEEK_POSITION = 0x18538067, 0x1F43B675, 0x114D9B74, 0x4DBB, 0x53AC
_TAGS, _TAG, _SIMPLE_TAG = 0x1254C367, 0x7373, 0x67C8
_OPENED = (_SEGMENT, _SEEK_HEAD, _SEEK, _TAGS, _TAG, _SIMPLE_TAG)
_RESYNCHRONISATION = re.compile(
    b"|".join(re.escape(number.to_bytes(4, "big")) for number in (_TAGS, _SEEK_HEAD, _CLUSTER))
)
_LONGEST_HEAD_BYTES = 12
_BLOCK_BYTES = 1 << 14


class Element(NamedTuple):
    """An element's number, and where its content begins and ends; it has no end if it does not say its size."""

    number: int
    position: int
    end: int | None


def check_head(file: BinaryIO) -> None:
    """Refuse a file that is cut short, if it says how long it is, or has so many tags that FFmpeg would be busy.

    Raises:
        UndecodableMediaError: It ends within its segment. Live recordings do not say where theirs ends.
        MediaLimitError: Too many tags, or elements before the first cluster.
    """
    size = file.seek(0, 2)
    tags = 0
    for element in _Head(file).elements():
        if element.number == _SEGMENT and element.end is not None:
            check_extent(size, element.end)
        tags += element.number == _SIMPLE_TAG
        if tags > MOST_TAGS:
            raise MediaLimitError(f"the upload has more than {MOST_TAGS} tags: save it without them")


class _Head:
    """What FFmpeg reads of a file to open it: all up to the first cluster, and what the tables of contents point to."""

    def __init__(self, file: BinaryIO) -> None:
        self._file = file
        self._size = file.seek(0, 2)
        self._room = MOST_ELEMENTS
        self._segment = 0
        self._pointers: list[int] = []

    def elements(self) -> Iterator[Element]:
        """Yield the elements, those in others after them.

        Raises:
            MediaLimitError: There are more than MOST_ELEMENTS.
        """
        yield from self._within(0, self._size)
        followed: set[int] = set()
        while self._pointers:
            position = self._pointers.pop()
            if position in followed:
                continue
            followed.add(position)
            element = self._element(position)
            if element is not None and element.number in (_TAGS, _SEEK_HEAD):
                yield from self._within(element.position, element.end or self._size)

    def _within(self, position: int, end: int) -> Iterator[Element]:
        while position < end:
            element = self._element(position)
            if element is None:
                position = self._resynchronised(position + 1, end)
                continue
            if element.number == _CLUSTER:
                return
            yield element
            if element.number == _SEGMENT:
                self._segment = element.position
            elif element.number == _SEEK_POSITION and element.end is not None:
                self._file.seek(element.position)
                content = self._file.read(min(8, element.end - element.position))
                self._pointers.append(self._segment + int.from_bytes(content, "big"))
            # What lies in an element is gone through in one row with what follows it.
            position = element.position if element.number in _OPENED or element.end is None else element.end

    def _resynchronised(self, position: int, end: int) -> int:
        """Return where the next element begins that FFmpeg would go on with behind a damaged one; `end` if nowhere."""
        while position < end:
            self._file.seek(position)
            block = self._file.read(_BLOCK_BYTES)
            if found := _RESYNCHRONISATION.search(block):
                return position + found.start()
            if len(block) < _BLOCK_BYTES:
                break
            # The last bytes may be the first ones of a number.
            position += len(block) - 3
        return end

    def _element(self, position: int) -> Element | None:
        """Return the element that begins at `position`; None if none can, or it would end behind the file."""
        self._room -= 1
        if self._room < 0:
            raise MediaLimitError(f"the upload has more than {MOST_ELEMENTS} elements in its head: encode it again")
        # A pointer may name any place, also one that no file can have.
        if position >= self._size:
            return None
        self._file.seek(position)
        head = self._file.read(_LONGEST_HEAD_BYTES)
        number_bytes = _length(head[:1])
        size_bytes = _length(head[number_bytes : number_bytes + 1])
        after = number_bytes + size_bytes
        if not 0 < number_bytes <= 4 or not size_bytes or len(head) < after:
            return None
        number = int.from_bytes(head[:number_bytes], "big")
        mask = (1 << 7 * size_bytes) - 1
        size = int.from_bytes(head[number_bytes:after], "big") & mask
        begin = position + after
        end = None if size == mask else begin + size
        # A file that is cut short ends within its segment, and within a cluster.
        if end is not None and end > self._size and number not in (_SEGMENT, _CLUSTER):
            return None
        return Element(number, begin, end)


def _length(first: bytes) -> int:
    """Return the bytes of a number by its first one; zero if no number begins so."""
    return 9 - first[0].bit_length() if first and first[0] else 0

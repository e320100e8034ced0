"""Read single bits and NAL units: what H.264 and HEVC have in common (ITU-T H.264 and H.265, clauses 7.2, 9 and B)."""

from __future__ import annotations

from collections.abc import Iterator

from service.media.bitstreams.pictures import UnknownStructureError

MAX_UNITS = 4096  # In one packet; slices of an 8K picture are far fewer.

MAX_HEADER_BYTES = 1024  # What is read of a unit; the longest headers, with all scaling lists, take less.


class BitReader:
    """Reads the payload of a NAL unit from its first bit, without the bytes that prevent false start codes."""

    def __init__(self, payload: bytes) -> None:
        content = payload[:MAX_HEADER_BYTES].replace(b"\0\0\3", b"\0\0")
        self._bits = int.from_bytes(content, "big")
        self._left = len(content) * 8

    def read(self, count: int) -> int:
        """Return the next `count` bits as an unsigned number.

        Raises:
            UnknownStructureError: They lie behind the end.
        """
        self._left -= count
        if self._left < 0:
            raise UnknownStructureError("a header ends too early")
        return (self._bits >> self._left) & ((1 << count) - 1)

    def skip(self, count: int) -> None:
        """Pass over bits."""
        self.read(count)

    def golomb(self) -> int:
        """Return the next unsigned Exp-Golomb number, ue(v)."""
        zeros = 0
        while not self.read(1):
            zeros += 1
        return (1 << zeros) - 1 + self.read(zeros)

    def signed_golomb(self) -> int:
        """Return the next signed Exp-Golomb number, se(v)."""
        value = self.golomb()
        return (value + 1) // 2 if value % 2 else -value // 2


def nal_units(data: bytes, length_size: int) -> Iterator[tuple[int, int]]:
    """Yield (start, end) of each NAL unit: with lengths of `length_size` bytes before them, or start codes if 0.

    Raises:
        UnknownStructureError: A length points beyond the end, or there are too many.
    """
    spans = _after_lengths(data, length_size) if length_size else _after_start_codes(data)
    for number, (start, end) in enumerate(spans):
        if number == MAX_UNITS:
            raise UnknownStructureError("too many NAL units in one packet")
        if start < end:
            yield start, end


def _after_lengths(data: bytes, length_size: int) -> Iterator[tuple[int, int]]:
    at = 0
    while at < len(data):
        start = at + length_size
        at = start + int.from_bytes(data[at:start], "big")
        if at > len(data):
            raise UnknownStructureError("a NAL unit is longer than its packet")
        yield start, at


def _after_start_codes(data: bytes) -> Iterator[tuple[int, int]]:
    code = data.find(b"\0\0\1")
    while code >= 0:
        following = data.find(b"\0\0\1", code + 3)
        yield code + 3, following if following >= 0 else len(data)
        code = following

"""Read single bits and NAL units: what H.264 and HEVC have in common (ITU-T H.264 and H.265, clauses 7.2, 9 and B)."""

from __future__ import annotations

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


def nal_units(data: bytes, length_size: int) -> list[tuple[int, int]]:
    """Return (start, end) of each NAL unit: with lengths of `length_size` bytes before them, or start codes if 0.

    Raises:
        UnknownStructureError: A length points beyond the end, or there are too many.
    """
    spans = _after_lengths(data, length_size) if length_size else _after_start_codes(data)
    if len(spans) > MAX_UNITS:
        raise UnknownStructureError("too many NAL units in one packet")
    return [(start, end) for start, end in spans if start < end]


def _after_lengths(data: bytes, length_size: int) -> list[tuple[int, int]]:
    spans: list[tuple[int, int]] = []
    at = 0
    while at < len(data) and len(spans) <= MAX_UNITS:
        start = at + length_size
        at = start + int.from_bytes(data[at:start], "big")
        if at > len(data):
            raise UnknownStructureError("a NAL unit is longer than its packet")
        spans.append((start, at))
    return spans


def _after_start_codes(data: bytes) -> list[tuple[int, int]]:
    spans: list[tuple[int, int]] = []
    code = data.find(b"\0\0\1")
    while code >= 0 and len(spans) <= MAX_UNITS:
        following = data.find(b"\0\0\1", code + 3)
        spans.append((code + 3, following if following >= 0 else len(data)))
        code = following
    return spans


def counted_units(data: bytes, at: int, count: int) -> tuple[list[bytes], int]:
    """Return `count` NAL units that begin at `at`, a length of two bytes before each, and where they end.

    So the container's configuration records hold parameter sets (ISO/IEC 14496-15).
    """
    units = []
    for _ in range(count):
        end = at + 2 + int.from_bytes(data[at : at + 2], "big")
        units.append(trimmed(data, at + 2, end))
        at = end
    return units, at


def trimmed(data: bytes, start: int, end: int) -> bytes:
    """Return a NAL unit without the zero bytes that may follow it."""
    return data[start:end].rstrip(b"\0")

"""VP8 (RFC 6386) and VP9: keyframes start decoding; some frames are decoded but never shown.

No frame is taken for one that nothing refers to: even a VP9 frame that updates no reference leaves probabilities and
motion vectors to the next one.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from functools import cache

from service.media.bitstreams.bits import BitReader
from service.media.bitstreams.pictures import CodedPicture, UnknownStructureError


def read_vp8_pictures(packets: Iterable[bytes]) -> Iterator[CodedPicture]:
    """Yield what each packet of VP8 is (RFC 6386, section 9.1)."""
    for data in packets:
        yield CodedPicture(starts=not data[0] & 1, referenced=True, shown=bool(data[0] & 0x10))


def read_vp9_pictures(packets: Iterable[bytes]) -> Iterator[CodedPicture]:
    """Yield what each packet of VP9 is (VP9 bitstream specification 0.6, section 6.2 and annex B).

    Raises:
        UnknownStructureError: A packet that shows more than one frame, or bytes that are not VP9.
    """
    for data in packets:
        frames = [_frame(data[start : start + 1]) for start in _frame_starts(data)]
        if len(frames) > 1 and sum(frame.shown for frame in frames) > 1:
            raise UnknownStructureError("a packet that shows more than one frame")
        # A hidden frame comes first.
        yield frames[0] if len(frames) == 1 else frames[0]._replace(shown=any(frame.shown for frame in frames))


def _frame_starts(data: bytes) -> list[int]:
    """Return where the frames of a packet start: several, if it ends with the index of a superframe (annex B)."""
    marker = data[-1]
    count, size_bytes = (marker & 7) + 1, ((marker >> 3) & 3) + 1
    index = len(data) - 2 - count * size_bytes
    if marker >> 5 != 0b110 or index < 0 or data[index] != marker:
        return [0]
    starts = [0]
    for i in range(count - 1):
        at = index + 1 + i * size_bytes
        starts.append(starts[-1] + int.from_bytes(data[at : at + size_bytes], "little"))
    return starts


@cache
def _frame(first_byte: bytes) -> CodedPicture:
    """Return what a frame is by the first byte of its header, which says it all."""
    bits = BitReader(first_byte)
    if bits.read(2) != 2:
        raise UnknownStructureError("a packet that is not VP9")
    profile = bits.read(1) + 2 * bits.read(1)
    if profile == 3:
        bits.skip(1)
    if bits.read(1):  # an earlier frame is shown now
        return CodedPicture(starts=False, referenced=True)
    is_key = not bits.read(1)
    return CodedPicture(starts=is_key, referenced=True, shown=bool(bits.read(1)))

"""H.264 (ITU-T H.264): which access units start decoding, and which nothing refers to."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from service.media.bitstreams.bits import BitReader, counted_units, nal_units, trimmed
from service.media.bitstreams.pictures import CodedPicture, ParameterSets, UnknownStructureError

SLICE, PARTITIONS, IDR_SLICE, SEI, SPS, PPS = 1, (2, 3, 4), 5, 6, 7, 8
RECOVERY_POINT = 6
# Profiles whose SPS holds chroma format and scaling lists (clause 7.3.2.1.1).
HIGH_PROFILES = {44, 83, 86, 100, 110, 118, 122, 128, 134, 135, 138, 139, 244}
# FFmpeg mends the streams of earlier encoders, which it knows by a note in the first packet alone.
FIRST_SOUND_X264 = 151
X264_NOTE = re.compile(rb"x264 - core (\d{1,6})")


def read_pictures(extradata: bytes, packets: Iterable[bytes]) -> Iterator[CodedPicture]:
    """Yield what each packet is; `extradata` is the container's avcC record or its parameter sets in a row.

    Raises:
        UnknownStructureError: Fields in packets of their own, changing parameter sets, or bytes that are not H.264.
    """
    length_size, outside = _configuration(extradata)
    reader = _Reader(length_size, outside)
    for number, data in enumerate(packets):
        note = X264_NOTE.search(data, 0, 4096) if number == 0 else None
        if note and int(note[1]) < FIRST_SOUND_X264:
            raise UnknownStructureError("an early x264 made the stream")
        yield reader.read(data)


def _configuration(extradata: bytes) -> tuple[int, frozenset[bytes]]:
    """Return the bytes of a NAL length (0: start codes) and the parameter sets (ISO/IEC 14496-15, clause 5.3.3)."""
    if extradata[:1] != b"\1" or len(extradata) < 7:
        return 0, _parameter_sets(trimmed(extradata, *span) for span in nal_units(extradata, 0))
    found: list[bytes] = []
    at = 5
    # The number of sequence parameter sets has three reserved bits before it, that of picture parameter sets none.
    for mask in (0x1F, 0xFF):
        count = int.from_bytes(extradata[at : at + 1], "big") & mask
        at += 1
        units, at = counted_units(extradata, at, count)
        found += units
    return (extradata[4] & 3) + 1, _parameter_sets(found)


def _parameter_sets(units: Iterable[bytes]) -> frozenset[bytes]:
    return frozenset(unit for unit in units if unit and unit[0] & 31 in (SPS, PPS))


class _Reader:
    def __init__(self, length_size: int, outside: frozenset[bytes]) -> None:
        self._length_size = length_size
        self._sets = ParameterSets(outside)
        self._sps_bytes: bytes | None = None
        self._sps: _SequenceParameters | None = None
        self._frames_only = False
        for unit in outside:
            self._learn(unit)

    def read(self, data: bytes) -> CodedPicture:
        headers: set[bytes] = set()
        coded = idr = recovers = referenced = False
        for start, end in nal_units(data, self._length_size):
            kind = data[start] & 31
            if kind in (SLICE, IDR_SLICE):
                if not (coded or self._frames_only):
                    self._refuse_field(data[start + 1 : start + 33])
                coded = True
                idr |= kind == IDR_SLICE
                referenced |= bool(data[start] & 0x60)
            elif kind in (SPS, PPS):
                headers.add(trimmed(data, start, end))
                self._learn(data[start:end])
            elif kind == SEI:
                recovers |= _recovers_at_once(data[start + 1 : end])
            elif kind in PARTITIONS:
                raise UnknownStructureError("slices are partitioned")
        if not coded:
            raise UnknownStructureError("a packet without a slice")
        complete = self._sets.complete_in(frozenset(headers))
        return CodedPicture(starts=complete and (idr or recovers), referenced=referenced or bool(headers))

    def _learn(self, unit: bytes) -> None:
        if unit[0] & 31 != SPS:
            return
        content = unit.rstrip(b"\0")
        if self._sps_bytes not in (None, content):
            raise UnknownStructureError("more than one sequence")
        if self._sps is None:
            self._sps_bytes, self._sps = content, _SequenceParameters.read(content[1:])
            self._frames_only = self._sps.frames_only

    def _refuse_field(self, header: bytes) -> None:
        """Refuse a slice that is one field of a frame (clause 7.3.3): two packets would make one frame."""
        if self._sps is None:
            raise UnknownStructureError("a slice before its parameter sets")
        bits = BitReader(header)
        for _ in range(3):  # first macroblock, slice type, picture parameter set
            bits.golomb()
        bits.skip(2 * self._sps.separate_planes + self._sps.frame_number_bits)
        if bits.read(1):
            raise UnknownStructureError("fields are coded one by one")


@dataclass(frozen=True)
class _SequenceParameters:
    frames_only: bool
    separate_planes: bool
    frame_number_bits: int

    @classmethod
    def read(cls, payload: bytes) -> _SequenceParameters:
        """Read a sequence parameter set as far as needed (clause 7.3.2.1.1)."""
        bits = BitReader(payload)
        profile = bits.read(8)
        bits.skip(16)  # constraint flags, level
        bits.golomb()  # id
        separate_planes = False
        if profile in HIGH_PROFILES:
            chroma = bits.golomb()
            separate_planes = chroma == 3 and bool(bits.read(1))
            bits.golomb()  # bit depths
            bits.golomb()
            bits.skip(1)
            if bits.read(1):
                for i in range(12 if chroma == 3 else 8):
                    if bits.read(1):
                        _skip_scaling_list(bits, 16 if i < 6 else 64)
        frame_number_bits = bits.golomb() + 4
        order = bits.golomb()
        if order == 0:
            bits.golomb()
        elif order == 1:
            bits.skip(1)
            bits.golomb()
            bits.golomb()
            for _ in range(min(bits.golomb(), 255)):
                bits.golomb()
        bits.golomb()  # reference frames
        bits.skip(1)
        bits.golomb()  # width, height
        bits.golomb()
        return cls(bool(bits.read(1)), separate_planes, frame_number_bits)


def _skip_scaling_list(bits: BitReader, size: int) -> None:
    last = following = 8
    for _ in range(size):
        if following:
            following = (last + bits.signed_golomb()) % 256
        last = following or last


def _recovers_at_once(payload: bytes) -> bool:
    """Tell whether SEI messages hold a recovery point that is exact from its own picture on (clause D.2.8)."""
    payload = payload.replace(b"\0\0\3", b"\0\0")
    at = 0
    while at + 2 < len(payload):
        kind, at = _sei_number(payload, at)
        size, at = _sei_number(payload, at)
        # No frames to wait for (one bit, 1), exact match 1, broken link 0.
        if kind == RECOVERY_POINT and payload[at : at + 1] and payload[at] >> 5 == 0b110:
            return True
        at += size
    return False


def _sei_number(payload: bytes, at: int) -> tuple[int, int]:
    value = 0
    while payload[at : at + 1] == b"\xff":
        value += 255
        at += 1
    return value + int.from_bytes(payload[at : at + 1], "big"), at + 1

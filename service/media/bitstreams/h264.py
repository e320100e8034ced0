"""H.264 (ITU-T H.264): which access units start decoding, and which nothing refers to."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from service.media.bitstreams.bits import MAX_UNITS, BitReader, counted_units, nal_units, trimmed
from service.media.bitstreams.pictures import CodedPicture, ParameterSets, UnknownStructureError

SLICE, PARTITIONS, IDR_SLICE, SEI, SPS, PPS = 1, (2, 3, 4), 5, 6, 7, 8
RECOVERY_POINT = 6
OWN_ASPECT_RATIO = 255
MOST_REORDERED_FRAMES, MOST_BUFFER_MODELS = 16, 32
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
        yield reader.read(data) if number == 0 else reader.read_slices(data) or reader.read(data)


def reordered_frames(extradata: bytes) -> int | None:
    """Return how many frames, at most, come before one in decoding order and are shown after it.

    None: the container's parameter sets do not say. FFmpeg decodes the first pictures of such a stream, and guesses.
    """
    try:
        units = _configuration(extradata)[1]
        depths = [_reordered_frames(BitReader(unit[1:])) for unit in units if unit[0] & 31 == SPS]
    except UnknownStructureError:
        return None
    known = [depth for depth in depths if depth is not None]
    return max(known) if known and len(known) == len(depths) else None


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


# What nearly every packet is.
_ONLY_SLICES = (CodedPicture(starts=False, referenced=False), CodedPicture(starts=False, referenced=True))


class _Reader:
    def __init__(self, length_size: int, outside: frozenset[bytes]) -> None:
        self._length_size = length_size
        self._sets = ParameterSets(outside)
        self._sps_bytes: bytes | None = None
        self._sps: _SequenceParameters | None = None
        self._frames_only = False
        for unit in outside:
            self._learn(unit)

    def read_slices(self, data: bytes) -> CodedPicture | None:
        """Return what `read` would of a packet that holds slices of a whole frame and nothing else; None of others."""
        if self._length_size != 4 or not self._frames_only:
            return None
        at = referenced = 0
        size = len(data)
        for _ in range(MAX_UNITS):
            start = at + 4
            if start >= size:
                return None
            header = data[start]
            if header & 31 != SLICE:
                return None
            referenced |= header & 0x60
            at = start + int.from_bytes(data[at:start], "big")
            if at == size:
                return _ONLY_SLICES[referenced > 0]
        return None

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
        starts = complete and (idr or recovers)
        return CodedPicture(starts, referenced=referenced or bool(headers), has_leading=not idr)

    def _learn(self, unit: bytes) -> None:
        if unit[0] & 31 != SPS:
            return
        content = unit.rstrip(b"\0")
        if self._sps_bytes not in (None, content):
            raise UnknownStructureError("more than one sequence")
        if self._sps is None:
            self._sps_bytes, self._sps = content, _SequenceParameters.read(BitReader(content[1:]))
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
    def read(cls, bits: BitReader) -> _SequenceParameters:
        """Read a sequence parameter set as far as needed (clause 7.3.2.1.1)."""
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


def _reordered_frames(bits: BitReader) -> int | None:
    """Return what the end of a sequence parameter set says of it, if anything (clauses 7.3.2.1.1 and E.1.1)."""
    if not _SequenceParameters.read(bits).frames_only:
        bits.skip(1)
    bits.skip(1)  # direct prediction
    if bits.read(1):
        _skip_golombs(bits, 4)  # cropping
    if not bits.read(1):
        return None
    if bits.read(1) and bits.read(8) == OWN_ASPECT_RATIO:
        bits.skip(32)
    if bits.read(1):
        bits.skip(1)  # overscan
    if bits.read(1):
        bits.skip(4)  # video format, full range
        if bits.read(1):
            bits.skip(24)  # colours
    if bits.read(1):
        _skip_golombs(bits, 2)  # places of chroma samples
    if bits.read(1):
        bits.skip(65)  # timing
    buffer_models = [_skip_buffer_model(bits) for _ in range(2)]
    bits.skip(1 + any(buffer_models))  # picture structure, low delay
    if not bits.read(1):
        return None
    bits.skip(1)
    _skip_golombs(bits, 4)  # sizes, lengths of motion vectors
    depth = bits.golomb()
    return depth if depth <= MOST_REORDERED_FRAMES else None


def _skip_buffer_model(bits: BitReader) -> bool:
    """Pass over parameters of the hypothetical reference decoder (clause E.1.2) and tell whether there are any."""
    if not bits.read(1):
        return False
    count = bits.golomb() + 1
    bits.skip(8)  # scales
    for _ in range(min(count, MOST_BUFFER_MODELS)):
        _skip_golombs(bits, 2)
        bits.skip(1)
    bits.skip(20)  # lengths of delays
    return True


def _skip_golombs(bits: BitReader, count: int) -> None:
    for _ in range(count):
        bits.golomb()


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

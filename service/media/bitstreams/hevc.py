"""HEVC (ITU-T H.265): which access units start decoding, and which nothing refers to."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from service.media.bitstreams.bits import BitReader, counted_units, nal_units, trimmed
from service.media.bitstreams.pictures import CodedPicture, ParameterSets, UnknownStructureError

# NAL unit types, table 7-1. Below FIRST_RANDOM_ACCESS even types are not referred to within their temporal layer.
LAST_ORDINARY, FIRST_RANDOM_ACCESS, LAST_RANDOM_ACCESS = 9, 16, 21
IDR_WITH_LEADING, IDR_ALONE, CLEAN_RANDOM_ACCESS = 19, 20, 21
LAST_PICTURE = 31
VPS, SPS, PPS = 32, 33, 34
SEQUENCE_ENDS = (36, 37)


def read_pictures(extradata: bytes, packets: Iterable[bytes]) -> Iterator[CodedPicture]:
    """Yield what each packet is; `extradata` is the container's hvcC record or its parameter sets in a row.

    Raises:
        UnknownStructureError: Spliced streams, changing parameter sets, hidden pictures, or bytes that are not HEVC.
    """
    length_size, outside = _configuration(extradata)
    for unit in outside:
        _refuse_hidden_pictures(unit)
    sets = ParameterSets(outside)
    pictures = [_read(data, length_size, sets) for data in packets]
    top_layer = max((layer for _, layer in pictures), default=0)
    for picture, layer in pictures:
        # A picture of a lower temporal layer may serve the layers above it.
        lower = layer < top_layer
        yield picture._replace(referenced=picture.referenced or lower)


def _configuration(extradata: bytes) -> tuple[int, frozenset[bytes]]:
    """Return the bytes of a NAL length (0: start codes) and the parameter sets (ISO/IEC 14496-15, clause 8.3.3)."""
    if extradata[:1] != b"\1" or len(extradata) < 23:
        return 0, _parameter_sets(trimmed(extradata, *span) for span in nal_units(extradata, 0))
    found: list[bytes] = []
    at = 23
    for _ in range(extradata[22]):
        count = int.from_bytes(extradata[at + 1 : at + 3], "big")
        at += 3
        units, at = counted_units(extradata, at, count)
        found += units
    return (extradata[21] & 3) + 1, _parameter_sets(found)


def _parameter_sets(units: Iterable[bytes]) -> frozenset[bytes]:
    return frozenset(unit for unit in units if unit and _kind(unit) in (VPS, SPS, PPS))


def _kind(unit: bytes) -> int:
    return (unit[0] >> 1) & 63


def _read(data: bytes, length_size: int, sets: ParameterSets) -> tuple[CodedPicture, int]:
    """Return what a packet is, and its temporal layer."""
    headers = set()
    kind = layer = -1
    for start, end in nal_units(data, length_size):
        unit_kind = (data[start] >> 1) & 63
        if unit_kind in SEQUENCE_ENDS:
            raise UnknownStructureError("the sequence ends on the way")
        if end - start < 3 or data[start] & 1 or data[start + 1] >> 3:
            continue  # empty, or of a second view or a depth map
        if unit_kind <= LAST_PICTURE:
            kind, layer = unit_kind, (data[start + 1] & 7) - 1
            _refuse_splice(kind, data[start + 2])
        elif unit_kind in (VPS, SPS, PPS):
            unit = trimmed(data, start, end)
            _refuse_hidden_pictures(unit)
            headers.add(unit)
    if kind < 0:
        raise UnknownStructureError("a packet without a slice")
    complete = sets.complete_in(frozenset(headers))
    starts = complete and kind in (IDR_WITH_LEADING, IDR_ALONE, CLEAN_RANDOM_ACCESS)
    referenced = kind >= FIRST_RANDOM_ACCESS or kind % 2 == 1 or bool(headers)
    return CodedPicture(starts, referenced, has_leading=kind == CLEAN_RANDOM_ACCESS), layer


def _refuse_splice(kind: int, first_byte: int) -> None:
    if LAST_ORDINARY < kind < IDR_WITH_LEADING or kind > LAST_RANDOM_ACCESS:
        raise UnknownStructureError("the stream is spliced, or its picture types are from the future")
    # The second bit of a slice in an IDR picture: frames that wait for output are thrown away (clause 7.3.6.1).
    if kind in (IDR_WITH_LEADING, IDR_ALONE) and first_byte & 0x40:
        raise UnknownStructureError("the stream discards pictures that are not yet shown")


def _refuse_hidden_pictures(unit: bytes) -> None:
    if _kind(unit) != PPS:
        return
    bits = BitReader(unit[2:])
    bits.golomb()  # id
    bits.golomb()  # id of the sequence
    bits.skip(1)
    if bits.read(1):  # output_flag_present_flag
        raise UnknownStructureError("pictures may be hidden")

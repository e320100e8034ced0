"""MPEG-1, MPEG-2 (ITU-T H.262) and MPEG-4 part 2 video: B-pictures are never referred to, I-pictures start decoding."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

from service.media.bitstreams.pictures import CodedPicture, ParameterSets, UnknownStructureError

# FFmpeg's names of the codecs for which `presentation_order` holds.
ORDERED_BY_TYPE = ("mpeg1video", "mpeg2video", "mpeg4")

PICTURE, SEQUENCE, EXTENSION, GROUP = b"\0\0\1\0", b"\0\0\1\xb3", b"\0\0\1\xb5", b"\0\0\1\xb8"
I_PICTURE, B_PICTURE, DC_PICTURE = 1, 3, 4
WHOLE_FRAME = 3

VOP, GROUP_OF_VOPS = b"\0\0\1\xb6", b"\0\0\1\xb3"
GROUP_OF_VOPS_BYTES = 7
I_VOP, B_VOP = 0, 2
# A shorter VOP may be a mere note that the picture before it stays on, for which no frame comes out.
SHORTEST_VOP_BYTES = 12


def read_mpeg2_pictures(packets: Iterable[bytes]) -> Iterator[CodedPicture]:
    """Yield what each packet of MPEG-1 or MPEG-2 video is.

    Raises:
        UnknownStructureError: Packets that are not one frame, or sequence headers that change.
    """
    sets = ParameterSets(frozenset())
    for data in packets:
        first = data.find(PICTURE)
        kinds = _coding_types(data, first)
        sequence = data.find(SEQUENCE, 0, max(first, 0))
        end = data.find(GROUP, sequence, first)
        headers = frozenset([data[sequence : end if end >= 0 else first]] if sequence >= 0 else [])
        complete = sets.complete_in(headers)
        yield CodedPicture(starts=complete and kinds[0] == I_PICTURE, referenced=set(kinds) != {B_PICTURE})


def _coding_types(data: bytes, first: int) -> list[int]:
    """Return the coding type of the frame, or of both its fields (clauses 6.2.3 and 6.2.3.1)."""
    kinds: list[int] = []
    fields = 0
    at = first
    while at >= 0 and len(kinds) < 3:
        kinds.append((int.from_bytes(data[at + 5 : at + 6], "big") >> 3) & 7)
        following = data.find(PICTURE, at + 4)
        extension = data.find(EXTENSION, at, following if following >= 0 else at + 64)
        if extension >= 0 and int.from_bytes(data[extension + 6 : extension + 7], "big") & 3 != WHOLE_FRAME:
            fields += 1
        at = following
    if (len(kinds), fields) not in ((1, 0), (2, 2)) or not all(I_PICTURE <= kind < DC_PICTURE for kind in kinds):
        raise UnknownStructureError("a packet that is not one frame")
    return kinds


def read_mpeg4_pictures(packets: Iterable[bytes]) -> Iterator[CodedPicture]:
    """Yield what each packet of MPEG-4 part 2 video is (ISO/IEC 14496-2, clause 6.2.5).

    Raises:
        UnknownStructureError: Packets that are not one coded picture, or headers that change.
    """
    sets = ParameterSets(frozenset())
    for data in packets:
        at = data.find(VOP)
        if at < 0 or len(data) - at < SHORTEST_VOP_BYTES or data.find(VOP, at + 4) >= 0:
            raise UnknownStructureError("a packet that is not one picture")
        kind = data[at + 4] >> 6
        group = data.find(GROUP_OF_VOPS, 0, at)
        # The time code of a group is different every time; it does not change what is decoded.
        header = data[:at] if group < 0 else data[:group] + data[group + GROUP_OF_VOPS_BYTES : at]
        complete = sets.complete_in(frozenset([header] if header else []))
        yield CodedPicture(starts=complete and kind == I_VOP, referenced=kind != B_VOP)


def presentation_order(pictures: Sequence[CodedPicture]) -> list[int]:
    """Return when each picture is shown, from 0: a B-picture at once, any other when the next that is none arrives."""
    order: list[int] = []
    waiting: list[int] = []
    for position, picture in enumerate(pictures):
        if picture.referenced:
            order += waiting
            waiting = [position]
        else:
            order.append(position)
    order += waiting
    shown = {position: number for number, position in enumerate(order)}
    return [shown[position] for position in range(len(pictures))]

"""Plan which packets to decode for a set of frames: where to start, when to read on, what to leave out.

A frame needs the packets from a start point up to its own, without those that nothing refers to; a start point is a
picture from which decoding is exact. Of the start points before a frame the last is taken, and frames whose stretches
touch share a run. No packet is in two runs, so a plan never costs more than decoding everything once.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass

from service.media.bitstreams.pictures import CodedPicture, UnknownOrderError, UnknownStructureError


@dataclass(frozen=True)
class Run:
    """Packets for a decoder that holds nothing, and what must come out of it.

    Attributes:
        packets: Positions in decoding order.
        first_stamp: Time stamp of the start point. Frames shown before it lean on what was not decoded: no exact
            picture, if one at all.
        frames: Numbers of the frames that come out from there on, ascending.
    """

    packets: tuple[int, ...]
    first_stamp: int
    frames: tuple[int, ...]


class DecodePlanner:
    """Plans over all packets of one stream, given in decoding order.

    Attributes:
        numbers: Frame number by time stamp.
    """

    def __init__(
        self,
        pictures: Sequence[CodedPicture],
        stamps: Sequence[int | None],
        visible: Sequence[bool],
        decoder_reorders: bool,
    ) -> None:
        """Number the frames and find the start points.

        Args:
            pictures: What each packet is.
            stamps: Presentation time stamp of each packet.
            visible: Whether a frame comes out of the decoder for it; edit lists cut frames away that others need.
            decoder_reorders: Whether the decoder expects pictures in another order than they are shown in.

        Raises:
            UnknownOrderError: Time stamps that are missing, doubtful or the same twice.
            UnknownStructureError: Frames at the start that cannot be decoded, or an order in which none can come out.
        """
        self._pictures = pictures
        self._visible = {position: _known(stamps[position]) for position, seen in enumerate(visible) if seen}
        in_order = sorted(self._visible, key=self._visible.__getitem__)
        self._positions = in_order
        self.numbers = {self._visible[position]: number for number, position in enumerate(in_order)}
        if len(self.numbers) < len(in_order):
            raise UnknownOrderError("frames share a time stamp")
        if not decoder_reorders and in_order != sorted(in_order):
            raise UnknownStructureError("frames are out of order, and the decoder puts none in order")
        has_unreferenced = not all(picture.referenced for picture in pictures)
        if decoder_reorders and has_unreferenced and in_order == sorted(in_order):
            # AVI knows only the order of decoding, and some writers of other containers have taken it from there.
            raise UnknownOrderError("the time stamps are those of decoding")
        self._starts = list(_start_points(pictures, stamps))
        self._start_stamps = [_known(stamps[start]) for start in self._starts]
        if self._starts[:1] != [0] or min(self.numbers, default=0) < self._start_stamps[0]:
            raise UnknownStructureError("the stream does not start with a picture that can be decoded")

    def plan(self, wanted: Collection[int]) -> list[Run]:
        """Return the runs that yield the frames with the numbers `wanted`, in ascending order of packets and frames."""
        targets = {self._positions[number] for number in wanted}
        stretches: list[tuple[int, int]] = []  # (first of the start points, last packet)
        for last in sorted(targets):
            start = self._start_for(last)
            while stretches and self._starts[start] <= stretches[-1][1] + 1:
                start = min(start, stretches.pop()[0])
            stretches.append((start, last))
        return [self._run(start, last, targets) for start, last in stretches]

    def _start_for(self, position: int) -> int:
        """Return the last start point that is neither decoded nor shown after the packet; both orders ascend."""
        decoded_before = bisect_right(self._starts, position)
        shown_before = bisect_right(self._start_stamps, self._visible[position])
        return min(decoded_before, shown_before) - 1

    def _run(self, start: int, last: int, targets: set[int]) -> Run:
        first, stamp = self._starts[start], self._start_stamps[start]
        packets = tuple(
            position
            for position in range(first, last + 1)
            if position == first or position in targets or self._pictures[position].referenced
        )
        stamps = sorted(self._visible[position] for position in packets if position in self._visible)
        return Run(packets, stamp, tuple(self.numbers[shown] for shown in stamps if shown >= stamp))


def _known(stamp: int | None) -> int:
    if stamp is None:
        raise UnknownOrderError("a frame without a time stamp")
    return stamp


def _start_points(pictures: Sequence[CodedPicture], stamps: Sequence[int | None]) -> Iterator[int]:
    """Yield the positions where decoding can begin; all pictures before them are shown before them too.

    Behind each may come leading pictures, which are shown before it, and then such that are shown after it alone.

    Raises:
        UnknownStructureError: The time stamps say otherwise: they begin anew, where recordings were joined.
    """
    latest: int | None = None
    start: int | None = None
    may_lead = True
    for position, (picture, stamp) in enumerate(zip(pictures, stamps, strict=True)):
        if stamp is None:
            continue
        if latest is None or stamp > latest:
            if picture.starts:
                yield position
                start = stamp
            may_lead = picture.starts
            latest = stamp
        elif (picture.starts and stamp < latest) or (start is not None and stamp < start and not may_lead):
            raise UnknownStructureError("the time stamps begin anew on the way")

"""Get the frames with wanted numbers out of an upload; what is made of them is the caller's."""

from __future__ import annotations

import logging
from collections.abc import Callable, Collection, Iterable, Iterator
from fractions import Fraction
from itertools import chain
from typing import BinaryIO, NoReturn, TypeVar

import av.error
import numpy as np
from av.packet import Packet
from av.video.codeccontext import VideoCodecContext
from av.video.frame import VideoFrame
from av.video.stream import VideoStream
from numpy.typing import NDArray

from service.errors import BadParameterError, UndecodableMediaError
from service.media import orientation
from service.media.bitstreams.mpeg import ORDERED_BY_TYPE, presentation_order
from service.media.bitstreams.pictures import CodedPicture, UnknownOrderError, UnknownStructureError
from service.media.bitstreams.structure import coded_pictures
from service.media.clock import follow_clock
from service.media.colour import RgbConverter
from service.media.formats import MPEGPS, MPEGTS, STILLS, ContainerFormat, recognise
from service.media.planning import DecodePlanner, Run
from service.media.probing import (
    all_packets,
    check_drawing,
    check_pixels,
    expects_reordering,
    open_video,
    read_packets,
)
from service.media.screening import screen, screen_packet, stated_size
from service.media.timing import FrameIndex, index_frames
from service.media.types import DecodeLimits

logger = logging.getLogger(__name__)

T = TypeVar("T")

SINGLE_FRAME = FrameIndex(ticks=(0,), tick=Fraction(1), fps=None)


def read_frames(file: BinaryIO, limits: DecodeLimits, use: Callable[[FrameSource], T]) -> T:
    """Open an upload and return `use(source)`.

    `use` chooses frames by `source.index`, reads them with `source.frames` and must let its exceptions pass: where the
    frames that come out are not those that the packets promised, `use` is called again with what is known then.

    Args:
        file: The upload; any object with read, seek and tell.
        limits: What it may ask of this process.
        use: Makes the result from the source; called three times at most.

    Raises:
        UnsupportedMediaError, UndecodableMediaError, MediaLimitError: See service.errors.
    """
    container_format = recognise(file)
    # First of all: FFmpeg says of a picture that is too large no more than that something is wrong with it.
    check_pixels(*stated_size(file, container_format), limits)
    screen(file, container_format)
    tagged = orientation.exif_orientation(file, container_format.name)
    size = file.seek(0, 2)
    with open_video(file, container_format, limits) as (container, stream):
        if container_format.kind == "image":
            # Whatever follows the picture stays unread.
            packets: Iterable[Packet[VideoStream]] = all_packets(container, stream)
            index, planner, sure = SINGLE_FRAME, None, True
        else:
            packets = read_packets(container, stream, size, limits)
            if container_format in STILLS:
                check_drawing(len(packets), stream)
            index, planner, sure = _index(packets, container_format, stream, limits)
            if container_format in STILLS and len(index) == 1:
                container_format, index = STILLS[container_format], SINGLE_FRAME
        turn = tagged if container_format.kind == "image" else None
        source = FrameSource(container_format, stream.codec_context, turn, packets, index, planner, sure)
        while True:
            try:
                return use(source)
            except _StartOverError:
                stream.codec_context.flush_buffers()


def _index(
    packets: list[Packet[VideoStream]], container_format: ContainerFormat, stream: VideoStream, limits: DecodeLimits
) -> tuple[FrameIndex, DecodePlanner | None, bool]:
    """Return the frames that the packets promise, what plans over them if it can, and whether their number is sure."""
    decoder = stream.codec_context
    codec = decoder.codec.canonical_name
    jumps = follow_clock(packets, stream.time_base) if container_format in (MPEGTS, MPEGPS) else []
    stamps = [packet.pts for packet in packets]
    visible = [not packet.is_discard for packet in packets]
    planner = None
    sure = True
    try:
        pictures = coded_pictures(codec, decoder.extradata or b"", packets)
        if any(pictures[jump].has_leading or not pictures[jump].starts for jump in jumps):
            raise UnknownStructureError("behind a jump of the clock comes what leans on pictures that are not there")
        visible = [picture.shown and seen for picture, seen in zip(pictures, visible, strict=True)]
        order = _presentation_stamps(codec, pictures, packets)
        planner = DecodePlanner(pictures, order, visible, expects_reordering(decoder))
    except UnknownStructureError as reason:
        logger.debug("frames are counted: %s", reason)
        # The pictures are known where their order is all that is not. Some of the first ones may be lost all the same.
        sure = isinstance(reason, UnknownOrderError) and pictures[0].starts and not pictures[0].has_leading
    times = [(stamp, packet.duration) for packet, stamp, seen in zip(packets, stamps, visible, strict=True) if seen]
    return index_frames(times, container_format, stream, limits), planner, sure


def _presentation_stamps(
    codec: str, pictures: list[CodedPicture], packets: list[Packet[VideoStream]]
) -> list[int | None]:
    """Return time stamps that put the frames in the order in which they are shown; the packets carry them then.

    Where the types of the pictures tell the order, the container, which may lack time stamps, is not asked.
    """
    if codec in ORDERED_BY_TYPE:
        for packet, stamp in zip(packets, presentation_order(pictures), strict=True):
            packet.pts = stamp
    return [packet.pts for packet in packets]


class _StartOverError(Exception):
    """What the source knew of its frames was wrong: choose again."""


class FrameSource:
    """The frames of one open upload.

    Attributes:
        format: Its container.
        codec: Name of its codec.
        orientation: EXIF orientation of a picture; None for a video, whose frames tell.
        index: The frames that it holds.
        decoded: Frames that the decoder has put out so far.
    """

    def __init__(
        self,
        container_format: ContainerFormat,
        decoder: VideoCodecContext,
        turn: int | None,
        packets: Iterable[Packet[VideoStream]],
        index: FrameIndex,
        planner: DecodePlanner | None,
        count_is_sure: bool,
    ) -> None:
        self.format = container_format
        self.codec = decoder.codec.canonical_name
        self.orientation = turn
        self.index = index
        self.decoded = 0
        self._decoder = decoder
        self._converter = RgbConverter(picture=container_format.kind == "image")
        self._packets = packets
        self._planner = planner
        self._count_is_sure = count_is_sure
        self._corrected = False

    def check_start(self, seconds: float | None) -> None:
        """Go on unless a later part is asked for of what shows at 0 s alone.

        Raises:
            BadParameterError: The upload is a picture.
        """
        if seconds and self.format.kind == "image":
            raise BadParameterError(f"start={seconds:g}: the upload is a picture, which shows at 0 s; leave it out")

    def frames(self, wanted: Collection[int]) -> Iterator[tuple[int, VideoFrame]]:
        """Yield the frames with the numbers `wanted` and their numbers, in ascending order; at least one is wanted.

        Numbers count the frames that come out when everything is decoded. The time stamps of the frames say nothing:
        `index` has the times.

        Raises:
            UndecodableMediaError: The decoder refuses, or no frame comes out.
        """
        chosen = frozenset(wanted)
        if self._planner is None:
            yield from self._counted(chosen)
            return
        try:
            for run in self._planner.plan(chosen):
                yield from self._planned(run, self._planner.numbers, chosen)
        except av.error.FFmpegError:
            self._distrust()

    def rgb(self, frame: VideoFrame) -> NDArray[np.uint8]:
        """Return the pixels (H, W, 3) of a frame; only rows lie in one piece."""
        return self._converter.convert(frame)

    def _planned(self, run: Run, numbers: dict[int, int], wanted: Collection[int]) -> Iterator[tuple[int, VideoFrame]]:
        """Decode one run; a frame is what its time stamp says only if all frames of the run come out as promised."""
        assert isinstance(self._packets, list)
        expected = iter(run.frames)
        self._decoder.flush_buffers()
        for frame in self._decode(self._packets[position] for position in run.packets):
            stamp = frame.pts
            if stamp is None:
                self._distrust()
            elif stamp >= run.first_stamp:
                number = numbers.get(stamp)
                is_no_start = stamp == run.first_stamp and not frame.key_frame
                if number is None or number != next(expected, None) or is_no_start:
                    self._distrust()
                if number in wanted:
                    yield number, frame
        if next(expected, None) is not None:
            self._distrust()

    def _distrust(self) -> NoReturn:
        """Have the caller start over, and count frames from the first one then."""
        self._planner = None
        self._count_is_sure = False
        raise _StartOverError

    def _counted(self, wanted: frozenset[int]) -> Iterator[tuple[int, VideoFrame]]:
        """Decode from the first frame on, to the last wanted one or, if their number is in doubt, to the end."""
        last = max(wanted)
        stamps: list[int | None] = []
        for count, frame in enumerate(self._decode(self._packets)):
            if count in wanted:
                yield count, frame
            stamps.append(frame.pts)
            if count >= last and self._count_is_sure:
                return
        if len(stamps) < len(self.index):
            self._correct(stamps)

    def _decode(self, packets: Iterable[Packet[VideoStream]]) -> Iterator[VideoFrame]:
        decode = self._decoder.decode
        for packet in chain(packets, [None]):
            if packet is not None and self.format.kind == "video":
                screen_packet(packet, self.codec)
            for frame in decode(packet):
                self.decoded += 1
                yield frame

    def _correct(self, stamps: list[int | None]) -> NoReturn:
        """Keep the frames that have proved to exist, by their time stamps, and have the caller choose again."""
        if not stamps:
            raise UndecodableMediaError("none of the upload's frames can be decoded")
        if self._corrected:
            raise UndecodableMediaError("the upload's frames cannot be decoded the same way twice")
        self._corrected = self._count_is_sure = True
        self.index = self.index.of_decoded(stamps)
        raise _StartOverError

"""Get the frames with wanted numbers out of an upload; what is made of them is the caller's."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator
from fractions import Fraction
from typing import BinaryIO, TypeVar

from av.packet import Packet
from av.video.codeccontext import VideoCodecContext
from av.video.frame import VideoFrame
from av.video.stream import VideoStream

from service.errors import UndecodableMediaError
from service.media import orientation
from service.media.formats import SNIFF_BYTES, ContainerFormat, sniff
from service.media.probing import FrameIndex, index_frames, open_video, read_packets
from service.media.types import DecodeLimits

T = TypeVar("T")

SINGLE_FRAME = FrameIndex(times=(Fraction(0),), fps=None, duration=None)


def read_frames(file: BinaryIO, limits: DecodeLimits, use: Callable[[FrameSource], T]) -> T:
    """Open an upload and return `use(source)`.

    `use` chooses frames by `source.index`, reads them with `source.frames` and must let its exceptions pass: where the
    packets promised more frames than came out, `use` is called again with an index of those that really exist.

    Args:
        file: The upload; any object with read, seek and tell.
        limits: What it may ask of this process.
        use: Makes the result from the source.

    Raises:
        UnsupportedMediaError, UndecodableMediaError, MediaLimitError: See service.errors.
    """
    file.seek(0)
    container_format = sniff(file.read(SNIFF_BYTES))
    is_picture = container_format.kind == "image"
    turn = orientation.exif_orientation(file, container_format.name) if is_picture else None
    size = file.seek(0, 2)
    with open_video(file, container_format, limits) as (container, stream):
        codec = stream.codec_context
        packets: Iterable[Packet[VideoStream]]
        if is_picture:
            # Whatever follows the picture stays unread.
            packets, index = container.demux(stream), SINGLE_FRAME
        else:
            packets = read_packets(container, stream, size, limits)
            index = index_frames(packets, stream, limits)
        source = FrameSource(container_format, codec, packets, index, turn)
        while True:
            try:
                return use(source)
            except _IndexCorrectedError:
                codec.flush_buffers()


class _IndexCorrectedError(Exception):
    """The index of the source has changed: choose frames again."""


class FrameSource:
    """The frames of one open upload.

    Attributes:
        format: Its container.
        codec: Name of its codec.
        index: The frames that it holds.
        orientation: EXIF orientation of a picture; None for a video, whose frames tell.
        decoded: Frames that the decoder has put out so far.
    """

    def __init__(
        self,
        container_format: ContainerFormat,
        codec: VideoCodecContext,
        packets: Iterable[Packet[VideoStream]],
        index: FrameIndex,
        turn: int | None,
    ) -> None:
        self.format = container_format
        self.codec = codec.codec.canonical_name
        self.index = index
        self.orientation = turn
        self.decoded = 0
        self._decoder = codec
        self._packets = packets
        self._corrected = False

    def frames(self, wanted: Collection[int]) -> Iterator[tuple[int, VideoFrame]]:
        """Yield the frames with the numbers `wanted` and their numbers, in ascending order; at least one is wanted.

        Raises:
            UndecodableMediaError: The decoder refuses, or no frame comes out.
        """
        last = max(wanted)
        count = 0
        for frame in self._decode():
            self.decoded += 1
            if count in wanted:
                yield count, frame
            count += 1
            if count > last:
                return
        self._correct(count)

    def _decode(self) -> Iterator[VideoFrame]:
        for packet in self._packets:
            yield from self._decoder.decode(packet)
        yield from self._decoder.decode(None)

    def _correct(self, count: int) -> None:
        """Keep the first `count` frames, which have proved to exist, and have the caller choose again."""
        if count == 0:
            raise UndecodableMediaError("none of the upload's frames can be decoded")
        if self._corrected:
            raise UndecodableMediaError("the upload's frames cannot be decoded the same way twice")
        self._corrected = True
        self.index = FrameIndex(self.index.times[:count], self.index.fps, self.index.duration)
        raise _IndexCorrectedError

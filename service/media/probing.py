"""Open an upload with FFmpeg, tightly held, and say what it is."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from fractions import Fraction
from typing import Any, BinaryIO

import av
import av.error
from av.container import InputContainer
from av.packet import Packet
from av.video.stream import VideoStream

from service.errors import BadParameterError, MediaLimitError, UndecodableMediaError, UnsupportedMediaError
from service.media.formats import ALLOWED_CODECS, ContainerFormat
from service.media.types import DecodeLimits

PACKET_SLACK_BYTES = 1 << 20


@dataclass(frozen=True)
class FrameIndex:
    """The frames that a video's packets promise, without decoding.

    Attributes:
        times: Presentation time of each frame, seconds from the first, ascending.
        fps: Average frames a second as the container says, or None.
        duration: Seconds from the first frame to the end of the last, or None.
    """

    times: tuple[Fraction, ...]
    fps: Fraction | None
    duration: float | None

    def between(self, start: float | None, end: float | None) -> tuple[int, int]:
        """Return the first frame and the number of frames that show between `start` and `end`, seconds.

        Raises:
            BadParameterError: There is none.
        """
        # As the client wrote it: 0.8 means 4/5, not the binary number beside it.
        low = Fraction(0) if start is None else Fraction(repr(start))
        high = None if end is None else Fraction(repr(end))
        shown = [number for number, time in enumerate(self.times) if low <= time and (high is None or time < high)]
        if not shown:
            length = "unknown" if self.duration is None else f"{self.duration:.3f} s"
            raise BadParameterError(f"start={start} and end={end} select no frame; the video's length is {length}")
        return shown[0], len(shown)


class _Nameless:
    """Gives FFmpeg the upload's bytes and nothing else: a file's name would steer what it opens."""

    def __init__(self, file: BinaryIO) -> None:
        file.seek(0)
        self.read = file.read
        self.seek = file.seek
        self.tell = file.tell


def _refuse_io(_url: str, _flags: int, _options: dict[str, str]) -> Any:
    raise PermissionError("uploads may not refer to other files")


@contextmanager
def open_video(
    file: BinaryIO, container_format: ContainerFormat, limits: DecodeLimits
) -> Iterator[tuple[InputContainer, VideoStream]]:
    """Open the upload and yield its container and its best video stream, set to decode in this thread alone.

    Raises:
        UndecodableMediaError: Broken, no video stream, or FFmpeg's own error while the context is open.
        UnsupportedMediaError: The codec is not on the list.
        MediaLimitError: Too many streams, pixels or not enough memory.
    """
    options = {
        "format_whitelist": av.ContainerFormat(container_format.demuxer, "r").name,
        "codec_whitelist": ",".join(ALLOWED_CODECS),
        "protocol_whitelist": "none",
        "max_pixels": str(limits.max_pixels),
        "max_streams": str(limits.max_streams),
    }
    try:
        with av.open(
            _Nameless(file),
            format=container_format.demuxer,
            options=options,
            io_open=_refuse_io,
            # Titles and comments come in any encoding, and nothing reads them.
            metadata_errors="replace",
        ) as container:
            assert isinstance(container, InputContainer)
            yield container, _video_stream(container, limits)
    except MemoryError as error:
        raise MediaLimitError("decoding the upload takes more memory than a decode worker may use") from error
    except av.error.FFmpegError as error:
        raise UndecodableMediaError(
            f"the upload looks like {container_format.name} but cannot be decoded: {error.strerror}"
        ) from error


def _video_stream(container: InputContainer, limits: DecodeLimits) -> VideoStream:
    stream = container.streams.best("video")
    if not isinstance(stream, VideoStream):
        raise UndecodableMediaError("the upload holds no video stream")
    codec = stream.codec_context
    if codec is None:
        raise UndecodableMediaError("the upload's video stream does not say how it is coded: the file is damaged")
    if codec.name not in ALLOWED_CODECS:
        raise UnsupportedMediaError(f"codec {codec.name} is not accepted; accepted are {', '.join(ALLOWED_CODECS)}")
    check_pixels(codec.width, codec.height, limits)
    # The size can change on the way, and some formats tell it only to the decoder.
    codec.options = {"max_pixels": str(limits.max_pixels)}
    # One thread a worker: the server runs many workers, and frame threads would delay and hold more frames.
    codec.thread_type = "NONE"
    codec.thread_count = 1
    return stream


def check_pixels(width: int, height: int, limits: DecodeLimits) -> None:
    """Refuse a picture of more than `limits.max_pixels`.

    Raises:
        MediaLimitError: Too many pixels.
    """
    if width * height > limits.max_pixels:
        raise MediaLimitError(
            f"{width}x{height} is {width * height} pixels; the limit is {limits.max_pixels}: send a smaller picture"
        )


def read_packets(
    container: InputContainer, stream: VideoStream, size: int, limits: DecodeLimits
) -> list[Packet[VideoStream]]:
    """Return the packets of `stream` in decoding order, to its end; `size` is the bytes of the upload.

    Raises:
        UndecodableMediaError: The container's own table points beyond the end of the file.
        MediaLimitError: Too many frames, or packets that hold far more bytes than the upload.
    """
    end_of_data = max((entry.pos + entry.size for entry in stream.index_entries), default=0)
    if end_of_data > size:
        raise UndecodableMediaError(f"the upload is cut short: {size} bytes came, its index reaches to {end_of_data}")
    packets: list[Packet[VideoStream]] = []
    # A hostile table can name the same bytes for every frame.
    room = 2 * size + PACKET_SLACK_BYTES
    for packet in container.demux(stream):
        if packet.size == 0:
            continue
        packets.append(packet)
        room -= packet.size
        if len(packets) > limits.max_frames:
            raise MediaLimitError(f"the video has more than {limits.max_frames} frames: cut it into shorter parts")
        if room < 0:
            raise MediaLimitError(f"the upload has {size} bytes, but its frames repeat them: encode it again")
    return packets


def index_frames(stamps: list[int | None], stream: VideoStream, limits: DecodeLimits) -> FrameIndex:
    """Return the frames of `stream` whose packets have the time stamps `stamps`.

    Raises:
        UndecodableMediaError: None.
        MediaLimitError: Too many seconds.
    """
    if not stamps:
        raise UndecodableMediaError("the upload holds no video frames")
    fps = stream.average_rate or stream.guessed_rate
    times = _presentation_times(stamps, stream.time_base, fps)
    frame_seconds = 1 / fps if fps else Fraction(0)
    duration = float(times[-1] + frame_seconds) if fps or len(times) > 1 else None
    if duration is not None and duration > limits.max_seconds:
        raise MediaLimitError(
            f"the video lasts {duration:.1f} s; the limit is {limits.max_seconds:g} s: cut it into shorter parts"
        )
    return FrameIndex(times, fps, duration)


def _presentation_times(
    stamps: list[int | None], time_base: Fraction | None, fps: Fraction | None
) -> tuple[Fraction, ...]:
    """Return ascending times from 0; without time stamps (raw AVI), the frame rate makes them."""
    known = sorted(stamp for stamp in stamps if stamp is not None)
    if time_base is None or len(known) < len(stamps):
        step = 1 / (fps or Fraction(25))
        return tuple(i * step for i in range(len(stamps)))
    numerator, denominator = time_base.as_integer_ratio()
    return tuple(Fraction((stamp - known[0]) * numerator, denominator) for stamp in known)

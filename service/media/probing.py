"""Open an upload with FFmpeg, tightly held, and say what it is."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager, suppress
from functools import cache
from typing import Any, BinaryIO

import av
import av.error
from av.container import InputContainer
from av.packet import Packet
from av.stream import Disposition
from av.video.codeccontext import VideoCodecContext
from av.video.stream import VideoStream

from service.errors import MediaLimitError, UndecodableMediaError, UnsupportedMediaError
from service.media.bitstreams.h264 import reordered_frames
from service.media.extent import check_extent
from service.media.formats import ALLOWED_CODECS, JPEG, MATROSKA, MOV, MP4, WEBM, ContainerFormat
from service.media.screening import PICTURE_CODECS
from service.media.types import DecodeLimits

PACKET_SLACK_BYTES = 1 << 20
# Of JPEG; pictures of other formats that have more are long before over every limit.
MOST_ROWS = 65535
# Recordings at a high rate leave out the frames that did not change: packets of no bytes, which cost time all the same.
EMPTY_PACKETS_A_FRAME = 4
# Two minutes of 1920x1080 at 17 frames a second; to draw them takes the better part of decode_cpu_seconds.
MOST_DRAWN_PIXELS = 1 << 32
# FFmpeg takes a stream that is one too many for a lack of memory, or ends the video where its first packet lies. With
# room for some more they are counted; each may cost it 10 MB, of pictures of 1920x1080 that it looks at.
MORE_STREAMS = 64
# Containers whose header says of a stream what others leave to its first packets.
DESCRIPTIVE_FORMATS = (MP4, MOV, MATROSKA, WEBM)


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
    try:
        if container_format in DESCRIPTIVE_FORMATS:
            with _open(file, container_format, limits, _LOOK_AT_NOTHING) as container:
                stream = _video_stream(container, container_format, limits)
                if _is_described(container, stream):
                    yield container, stream
                    return
        with _open(
            file, container_format, limits, {"codec_whitelist": ",".join(_probed_codecs(container_format))}
        ) as container:
            yield container, _video_stream(container, container_format, limits)
    except MemoryError as error:
        raise MediaLimitError("decoding the upload takes more memory than a decode worker may use") from error
    except av.error.FFmpegError as error:
        with suppress(av.error.FFmpegError):
            _check_stated_size(file, container_format, limits)
        raise UndecodableMediaError(
            f"the upload looks like {container_format.name} but cannot be decoded; it is damaged or cut short: "
            f"{error.strerror}"
        ) from error


# When it opens a file, FFmpeg decodes first pictures; then it parses every packet and looks for missing time stamps.
_LOOK_AT_NOTHING = {"codec_whitelist": "none", "fflags": "+noparse-genpts"}


def _check_stated_size(file: BinaryIO, container_format: ContainerFormat, limits: DecodeLimits) -> None:
    """Refuse a video whose size was why its decoder refused it: by what the container and the parsers say of it.

    Raises:
        MediaLimitError: Too many pixels.
    """
    with _open(file, container_format, limits, {"codec_whitelist": "none"}) as container:
        for stream in container.streams.video:
            if stream.codec_context is not None:
                check_pixels(stream.codec_context.width, stream.codec_context.height, limits)


def _probed_codecs(container_format: ContainerFormat) -> tuple[str, ...]:
    """Return the codecs whose first pictures FFmpeg may decode when it opens a file: none that is not screened yet."""
    if container_format.kind == "image":
        return ALLOWED_CODECS
    return tuple(codec for codec in ALLOWED_CODECS if codec not in PICTURE_CODECS)


def _open(
    file: BinaryIO, container_format: ContainerFormat, limits: DecodeLimits, options: dict[str, str]
) -> InputContainer:
    container = av.open(
        _Nameless(file),
        format=container_format.demuxer,
        options={
            "format_whitelist": _format_names(container_format.demuxer),
            "protocol_whitelist": "none",
            "max_pixels": str(_aligned(limits.max_pixels)),
            "max_streams": str(limits.max_streams + MORE_STREAMS),
            **options,
        },
        io_open=_refuse_io,
        # Titles and comments come in any encoding, and nothing reads them.
        metadata_errors="replace",
    )
    assert isinstance(container, InputContainer)
    return container


@cache
def _format_names(demuxer: str) -> str:
    """Return all names by which FFmpeg knows a demuxer."""
    return av.ContainerFormat(demuxer, "r").name


def _is_described(container: InputContainer, stream: VideoStream) -> bool:
    """Tell whether decoding the first pictures would say nothing about the stream that the container does not.

    It would help to choose among several streams, and say in which order H.264 shows pictures.
    """
    decoder = stream.codec_context
    known_order = decoder.codec.canonical_name in ("vp8", "vp9") or _stated_reordering(decoder) is not None
    return known_order and len(container.streams.video) == 1 and decoder.width > 0


def expects_reordering(decoder: VideoCodecContext) -> bool:
    """Tell whether pictures may come in another order than they are shown in."""
    return decoder.reorder_depth > 0 or bool(_stated_reordering(decoder))


def _stated_reordering(decoder: VideoCodecContext) -> int | None:
    return reordered_frames(decoder.extradata or b"") if decoder.codec.canonical_name == "h264" else None


def _aligned(pixels: int) -> int:
    """Return how many pixels a picture of so many may take up in FFmpeg, which counts rows in full multiples of 64.

    The pictures that come out are held to the limit itself.
    """
    return pixels + 63 * MOST_ROWS


def _video_stream(container: InputContainer, container_format: ContainerFormat, limits: DecodeLimits) -> VideoStream:
    if len(container.streams) > limits.max_streams:
        raise MediaLimitError(
            f"the upload has {len(container.streams)} streams; the limit is {limits.max_streams}: send its video alone"
        )
    # Music can bring a picture of its cover, which FFmpeg lists as a video.
    videos = [video for video in container.streams.video if not video.disposition & Disposition.attached_pic]
    best = container.streams.best("video")
    stream = best if best in videos else next(iter(videos), None)
    if not isinstance(stream, VideoStream):
        raise UndecodableMediaError("the upload holds no video stream")
    codec = stream.codec_context
    if codec is None:
        raise UndecodableMediaError("the upload's video stream does not say how it is coded: the file is damaged")
    if codec.name not in ALLOWED_CODECS:
        raise UnsupportedMediaError(f"codec {codec.name} is not accepted; accepted are {', '.join(ALLOWED_CODECS)}")
    check_pixels(codec.width, codec.height, limits)
    # The size can change on the way, and some formats tell it only to the decoder.
    codec.options = {"max_pixels": str(_aligned(limits.max_pixels))}
    if container_format is JPEG:
        # Else what is missing of a picture that is cut short would be grey.
        codec.options |= {"err_detect": "explode"}
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


def all_packets(container: InputContainer, stream: VideoStream) -> Iterator[Packet[VideoStream]]:
    """Yield the packets of `stream` in decoding order, and an empty one at the end."""
    try:
        yield from container.demux(stream)
    except IndexError:
        # PyAV 18.1 has then yielded all, and looks among the streams that it began with for one that came up on the
        # way, as in recordings of broadcasts.
        return


def read_packets(
    container: InputContainer, stream: VideoStream, size: int, limits: DecodeLimits
) -> list[Packet[VideoStream]]:
    """Return the packets of `stream` in decoding order, to its end; `size` is the bytes of the upload.

    Raises:
        UndecodableMediaError: The container's own table points beyond the end of the file.
        MediaLimitError: Too many frames, or packets that hold far more bytes than the upload.
    """
    too_many = MediaLimitError(f"the video has more than {limits.max_frames} frames: cut it into shorter parts")
    most_packets = limits.max_frames * (1 + EMPTY_PACKETS_A_FRAME)
    # The length of the index costs nothing; to go over millions of entries would.
    if len(stream.index_entries) > most_packets:
        raise too_many
    end_of_data = max((entry.pos + entry.size for entry in stream.index_entries), default=0)
    check_extent(size, end_of_data)
    packets: list[Packet[VideoStream]] = []
    # A hostile table can name the same bytes for every frame.
    room = 2 * size + PACKET_SLACK_BYTES
    for number, packet in enumerate(all_packets(container, stream)):
        if number > most_packets:
            raise too_many
        packet_bytes = packet.size
        if packet_bytes == 0:
            continue
        packets.append(packet)
        room -= packet_bytes
        if len(packets) > limits.max_frames:
            raise too_many
        if room < 0:
            raise MediaLimitError(f"the upload has {size} bytes, but its frames repeat them: encode it again")
    return packets


def check_drawing(frames: int, stream: VideoStream) -> None:
    """Refuse an animation that draws its canvas too often: each frame costs all of it, however few bytes it has.

    Raises:
        MediaLimitError: It draws more than MOST_DRAWN_PIXELS.
    """
    width, height = stream.codec_context.width, stream.codec_context.height
    if frames * width * height > MOST_DRAWN_PIXELS:
        raise MediaLimitError(
            f"{frames} frames of {width}x{height} are {frames * width * height} pixels to draw; the limit for animated "
            f"pictures is {MOST_DRAWN_PIXELS}: send a smaller or shorter one, or a video"
        )

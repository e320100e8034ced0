"""Music with a picture of its cover is no video, and the cover of a video is not what is looked at."""

import base64
import io
import struct
from collections.abc import Callable

import av
import numpy as np
import pytest
from av.audio.stream import AudioStream
from av.container import OutputContainer
from av.stream import Disposition
from av.video.stream import VideoStream
from PIL import Image

from service.errors import UndecodableMediaError
from tests.media import decode, decode_request, numbered_frames

FRAMES = numbered_frames(12, 48, 64)


def cover() -> bytes:
    file = io.BytesIO()
    Image.new("RGB", (64, 64), (200, 10, 10)).save(file, "JPEG")
    return file.getvalue()


def add_sound(output: OutputContainer, codec: str) -> AudioStream:
    stream = output.add_stream(codec, rate=48000)
    assert isinstance(stream, AudioStream)
    stream.layout = "mono"
    if codec == "libopus":
        # A block of the FLAC format, whose type 3 is the front cover.
        described = struct.pack(">2I10sI", 3, 10, b"image/jpeg", 0) + struct.pack(">4I", 64, 64, 24, 0)
        block = described + struct.pack(">I", len(cover())) + cover()
        stream.metadata["METADATA_BLOCK_PICTURE"] = base64.b64encode(block).decode()
    return stream


def write_sound(output: OutputContainer, stream: AudioStream) -> None:
    for number in range(20):
        frame = av.AudioFrame.from_ndarray(np.zeros((1, 960), np.int16), format="s16", layout="mono")
        frame.sample_rate, frame.pts = 48000, 960 * number
        output.mux(stream.encode(frame))
    output.mux(stream.encode(None))


def m4a() -> bytes:
    file = io.BytesIO()
    with av.open(file, "w", format="mp4") as output:
        picture = output.add_stream("mjpeg")
        assert isinstance(picture, VideoStream)
        picture.height, picture.width, picture.pix_fmt = 64, 64, "yuvj420p"
        picture.disposition = Disposition.attached_pic
        sound = add_sound(output, "aac")
        output.mux(picture.encode(av.VideoFrame.from_ndarray(np.zeros((64, 64, 3), np.uint8), format="rgb24")))
        output.mux(picture.encode(None))
        write_sound(output, sound)
    return file.getvalue()


def ogg() -> bytes:
    file = io.BytesIO()
    with av.open(file, "w", format="ogg") as output:
        write_sound(output, add_sound(output, "libopus"))
    return file.getvalue()


def matroska(write_stream: Callable[[OutputContainer], None]) -> bytes:
    """Return a file with a stream, and a cover among its attachments (RFC 9559, 5.1.6)."""
    file = io.BytesIO()
    with av.open(file, "w", format="matroska") as output:
        write_stream(output)

    def element(number: str, *parts: bytes) -> bytes:
        content = b"".join(parts)
        return bytes.fromhex(number) + struct.pack(">Q", 1 << 56 | len(content)) + content

    names = element("466E", b"cover.jpg"), element("4660", b"image/jpeg"), element("46AE", b"\1")
    attachments = element("1941A469", element("61A7", *names, element("465C", cover())))
    head, segment, content = file.getvalue().partition(bytes.fromhex("18538067"))
    # A segment of unknown size begins with the attachments.
    return head + segment + b"\x01" + b"\xff" * 7 + attachments + content[8:]


def write_video_for_the_deaf(output: OutputContainer) -> None:
    """Write a video that FFmpeg likes less than a cover."""
    stream = output.add_stream("libx264", rate=30)
    assert isinstance(stream, VideoStream)
    stream.height, stream.width = FRAMES.shape[1:3]
    stream.disposition = Disposition.hearing_impaired
    for frame in FRAMES:
        output.mux(stream.encode(av.VideoFrame.from_ndarray(frame, format="rgb24")))
    output.mux(stream.encode(None))


@pytest.mark.parametrize(
    "content",
    [m4a(), ogg(), matroska(lambda output: write_sound(output, add_sound(output, "aac")))],
    ids=["m4a", "ogg", "matroska"],
)
def test_music_with_its_cover_is_no_video(content: bytes) -> None:
    with av.open(io.BytesIO(content)) as container:
        (picture,) = container.streams.video
        assert picture.disposition & Disposition.attached_pic
    with pytest.raises(UndecodableMediaError, match="the upload holds no video stream"):
        decode(content, decode_request())


def test_cover_does_not_take_the_place_of_a_video() -> None:
    content = matroska(write_video_for_the_deaf)
    with av.open(io.BytesIO(content)) as container:
        best = container.streams.best("video")
        assert best is not None
        assert best.disposition & Disposition.attached_pic
    media = decode(content, decode_request(crop=(48, 48), resize=48))[0].media
    assert (media.codec, media.width, media.height, media.frames) == ("h264", 64, 48, len(FRAMES))

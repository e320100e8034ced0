"""Hostile JPEG and PNG pictures as the frames of a video."""

import io
from fractions import Fraction

import av
import numpy as np
import pytest
from av.video.stream import VideoStream
from PIL import Image

from service.errors import MediaLimitError
from tests.media import encode, numbered_frames, with_rotation
from tests.service.test_jpeg import FRAME, PICTURE, QUANTISERS, with_segments
from tests.service.test_png import PLAIN, ZEROS, chunk, png, with_chunks
from tests.service.uploads import Decode


def video(container: str, codec: str, *pictures: bytes) -> bytes:
    """Return a video whose frames are these files."""
    file = io.BytesIO()
    with av.open(file, "w", format=container) as output:
        stream = output.add_stream(codec, rate=30)
        assert isinstance(stream, VideoStream)
        stream.width, stream.height = (60, 40) if codec == "mjpeg" else (1, 1)
        stream.pix_fmt = "yuvj420p" if codec == "mjpeg" else "rgb24"
        for number, picture in enumerate(pictures):
            packet = av.Packet(picture)
            packet.stream, packet.pts, packet.dts = stream, number, number
            packet.time_base, packet.is_keyframe = Fraction(1, 30), True
            output.mux(packet)
    return file.getvalue()


@pytest.mark.parametrize("container", ["mov", "avi", "matroska"])
@pytest.mark.parametrize(
    ("picture", "reason"),
    [
        (with_segments(QUANTISERS * 5000), "more than 4096 segments"),
        (with_segments(FRAME * 2), "more than one frame header a picture"),
        (PICTURE + with_segments(FRAME * 2), "more than one frame header a picture"),
    ],
    ids=["segments", "frame headers", "frame headers of the second field"],
)
def test_hostile_jpeg_frame_is_refused(decode: Decode, container: str, picture: bytes, reason: str) -> None:
    with pytest.raises(MediaLimitError, match=reason):
        decode(video(container, "mjpeg", picture))


@pytest.mark.parametrize("container", ["mov", "avi"])
@pytest.mark.parametrize(
    ("picture", "reason"),
    [
        (with_chunks(chunk(b"zTXt", b"Comment\0\0" + ZEROS)), "when they are inflated"),
        (png(1, 1, ZEROS), "needs [0-9]+ bytes of compressed data at most"),
    ],
    ids=["text", "pixels"],
)
def test_hostile_png_frame_is_refused(decode: Decode, container: str, picture: bytes, reason: str) -> None:
    for pictures in ((picture,), (PLAIN, picture)):
        with pytest.raises(MediaLimitError, match=reason):
            decode(video(container, "png", *pictures))


@pytest.mark.parametrize("container", ["mov", "avi"])
@pytest.mark.parametrize(
    ("codec", "pixel_format"), [("mjpeg", "yuvj420p"), ("png", "rgb24")], ids=["Motion JPEG", "PNG"]
)
def test_sound_frames_are_taken(decode: Decode, container: str, codec: str, pixel_format: str) -> None:
    content = encode(numbered_frames(12), container, codec, pix_fmt=pixel_format)
    assert decode(content).result.media.frames == 12


def test_picture_and_its_second_field_are_taken(decode: Decode) -> None:
    result = decode(video("avi", "mjpeg", *[PICTURE + PICTURE] * 3)).result
    assert (result.media.frames, result.media.width) == (3, 60)


@pytest.mark.parametrize("clockwise", [0, 90, 180, 270])
def test_turn_of_a_track_is_kept_where_its_frames_have_exif(decode: Decode, clockwise: int) -> None:
    exif = Image.Exif()
    exif[0x010F] = "maker of the camera"
    plain, tagged = io.BytesIO(), io.BytesIO()
    frame = Image.fromarray(numbered_frames(1, 40, 60)[0])
    frame.save(plain, "JPEG")
    frame.save(tagged, "JPEG", exif=exif)
    expected = decode(with_rotation(video("mov", "mjpeg", plain.getvalue()), clockwise))
    turned = decode(with_rotation(video("mov", "mjpeg", tagged.getvalue()), clockwise))
    assert turned.result.media == expected.result.media
    assert turned.result.media.rotation == clockwise
    assert np.array_equal(turned.arrays[0], expected.arrays[0])

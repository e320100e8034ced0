"""Containers with many streams beside the video: all of its frames come out, or none."""

import io
from fractions import Fraction

import av
import numpy as np
import pytest

from service.errors import MediaLimitError
from tests.media import decode, decode_request, numbered_frames

COUNT = 60
FRAMES = numbered_frames(COUNT, 48, 64)
MOST = decode_request().limits.max_streams
SILENCE = np.zeros((1, 1152), np.int16)


def with_sounds(container: str, count: int) -> bytes:
    """Return a video with so many sound streams, whose packets come after a second of it."""
    file = io.BytesIO()
    with av.open(file, "w", format=container) as output:
        video = output.add_stream("libx264", rate=30)
        video.height, video.width, video.pix_fmt = 48, 64, "yuv420p"
        sounds = [output.add_stream("mp2", rate=44100, layout="mono") for _ in range(count)]
        for number, pixels in enumerate(FRAMES):
            output.mux(video.encode(av.VideoFrame.from_ndarray(pixels, format="rgb24")))
            for sound in sounds if number == COUNT // 2 else ():
                silence = av.AudioFrame.from_ndarray(SILENCE, format="s16", layout="mono")
                silence.rate, silence.pts, silence.time_base = 44100, 44100, Fraction(1, 44100)
                output.mux(sound.encode(silence))
        for stream in (video, *sounds):
            output.mux(stream.encode(None))
    return file.getvalue()


def with_subtitles(count: int) -> bytes:
    """Return a video with so many subtitle streams of one line, which shows after a second."""
    file = io.BytesIO()
    with av.open(file, "w", format="matroska") as output:
        video = output.add_stream("libx264", rate=30)
        video.height, video.width, video.pix_fmt = 48, 64, "yuv420p"
        subtitles = [output.add_stream("ass") for _ in range(count)]
        for number, pixels in enumerate(FRAMES):
            output.mux(video.encode(av.VideoFrame.from_ndarray(pixels, format="rgb24")))
            for stream in subtitles if number == COUNT // 2 else ():
                line = av.Packet(b"0,0,Default,,0,0,0,,Hello")
                line.stream, line.time_base = stream, Fraction(1, 1000)
                line.pts = line.dts = 1000
                output.mux(line)
        output.mux(video.encode(None))
    return file.getvalue()


@pytest.mark.parametrize("container", ["mp4", "mov", "matroska", "mpegts", "avi", "subtitles"])
def test_streams_are_counted(container: str) -> None:
    def made(others: int) -> bytes:
        return with_subtitles(others) if container == "subtitles" else with_sounds(container, others)

    request = decode_request(crop=(48, 48), resize=48)
    assert decode(made(MOST - 1), request)[0].media.frames == COUNT
    for others in (MOST, MOST + 4, 3 * MOST):
        refused = f"the upload has {others + 1} streams; the limit is {MOST}: send its video alone"
        with pytest.raises(MediaLimitError, match=refused):
            decode(made(others), request)

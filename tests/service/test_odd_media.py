"""Media that are sound but not what is asked for, or small and expensive, against a real server."""

import io
import re
import struct
from fractions import Fraction

import av
import httpx
import numpy as np
import pytest
from av.audio.stream import AudioStream
from PIL import Image

from tests.media import encode, numbered_frames
from tests.server import RunningServer

CLIP = encode(numbered_frames(40))


def sound_alone() -> bytes:
    file = io.BytesIO()
    with av.open(file, "w", format="mp4") as container:
        stream = container.add_stream("aac", rate=44100)
        assert isinstance(stream, AudioStream)
        frame = av.AudioFrame.from_ndarray(np.zeros((1, 1024), np.float32), format="fltp", layout="mono")
        frame.sample_rate, frame.time_base = 44100, Fraction(1, 44100)
        container.mux([*stream.encode(frame), *stream.encode(None)])
    return file.getvalue()


def animated_webp() -> bytes:
    file = io.BytesIO()
    first, *others = (Image.new("RGB", (64, 64), (shade, 0, 0)) for shade in range(0, 200, 50))
    first.save(file, "WEBP", save_all=True, append_images=others, duration=100)
    return file.getvalue()


def claiming_samples(count: int) -> bytes:
    """Return a clip whose table of sample sizes says that there are so many (ISO/IEC 14496-12, 8.7.3.2)."""
    (table,) = re.finditer(b"stsz", CLIP)
    place = table.end() + 8  # version and flags, and the size that all samples have
    return CLIP[:place] + struct.pack(">I", count) + CLIP[place + 4 :]


def webp_of_16384_pixels_square() -> bytes:
    """Return the head of a lossless picture that claims the largest size (WebP lossless bitstream, 3)."""
    content = b"VP8L" + struct.pack("<IBI", 13, 0x2F, 0x3FFF | 0x3FFF << 14) + bytes(9)
    return b"RIFF" + struct.pack("<I", 4 + len(content)) + b"WEBP" + content


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (sound_alone(), "no video stream"),
        (animated_webp(), "cannot be decoded"),
        (claiming_samples(60_000_000), ""),
        (claiming_samples(0xFFFFFFFF), ""),
        (webp_of_16384_pixels_square(), ""),
    ],
    ids=["sound alone", "animated WebP", "60 million samples", "as many samples as can be written", "huge WebP"],
)
def test_odd_upload_is_refused_with_a_reason_and_the_next_good_one_works(
    server: RunningServer, content: bytes, words: str
) -> None:
    workers = server.worker_pids()
    refused = httpx.post(f"{server.url}/v1/classify", content=content, timeout=60)
    assert refused.status_code == 422, refused.text
    assert refused.json()["code"] in ("undecodable_media", "media_limit_exceeded")
    assert words in refused.json()["detail"]
    assert httpx.post(f"{server.url}/v1/classify", content=CLIP, timeout=60).status_code == 200
    assert server.worker_pids() == workers

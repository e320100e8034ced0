"""Media that are sound but not what is asked for, or small and expensive, against a real server."""

import io
import re
import struct
from fractions import Fraction
from pathlib import Path

import av
import httpx
import numpy as np
import pytest
from av.audio.stream import AudioStream
from PIL import Image

from tests.media import encode, numbered_frames, remux
from tests.server import RunningServer, serving

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


def with_subtitles(clip: bytes, container: str, codec: str) -> bytes:
    file = io.BytesIO()
    with av.open(io.BytesIO(clip)) as source, av.open(file, "w", format=container) as target:
        video = target.add_stream_from_template(source.streams.video[0])
        subtitles = target.add_stream(codec)
        subtitles.codec_context.subtitle_header = b"[Script Info]\n"
        for packet in source.demux(video=0):
            if packet.size:
                packet.stream = video
                target.mux(packet)
    with av.open(io.BytesIO(file.getvalue())) as made:
        assert [stream.type for stream in made.streams] == ["video", "subtitle"]
    return file.getvalue()


@pytest.mark.parametrize(
    ("container", "codec"), [("matroska", "srt"), ("matroska", "ass"), ("mp4", "mov_text"), ("webm", "webvtt")]
)
def test_subtitles_are_left_alone(server: RunningServer, container: str, codec: str) -> None:
    clip = (
        CLIP
        if container != "webm"
        else encode(numbered_frames(40), "webm", "libvpx-vp9", options={"deadline": "realtime"})
    )
    answer = httpx.post(f"{server.url}/v1/classify", content=with_subtitles(clip, container, codec), timeout=60)
    assert answer.status_code == 200, answer.text
    assert answer.json()["media"]["frames"] == 40


def test_stream_that_comes_up_on_the_way_is_left_alone(server: RunningServer) -> None:
    """As in a recording of a broadcast that changes from one programme to the next (ISO/IEC 13818-1, 2.4.4.8)."""
    picture_alone = remux(CLIP, "mpegts", lambda _number, _packet: True)
    file = io.BytesIO()
    with av.open(io.BytesIO(CLIP)) as source, av.open(file, "w", format="mpegts") as target:
        video = target.add_stream_from_template(source.streams.video[0])
        sound = target.add_stream("aac", rate=44100)
        assert isinstance(sound, AudioStream)
        frame = av.AudioFrame.from_ndarray(np.zeros((1, 1024), np.float32), format="fltp", layout="mono")
        frame.sample_rate, frame.time_base = 44100, Fraction(1, 44100)
        for packet in source.demux(video=0):
            if packet.size:
                packet.stream = video
                target.mux(packet)
        target.mux([*sound.encode(frame), *sound.encode(None)])
    answer = httpx.post(f"{server.url}/v1/classify", content=picture_alone + file.getvalue(), timeout=60)
    assert answer.status_code == 200, answer.text
    assert answer.json()["media"]["frames"] == 80


def test_animated_webp_is_called_so(server: RunningServer) -> None:
    refused = httpx.post(f"{server.url}/v1/classify", content=animated_webp(), timeout=60)
    assert refused.status_code == 415
    assert "animated WebP is not decoded: send a GIF, an animated PNG or a video" in refused.json()["detail"]


def test_pointer_beyond_every_file_is_no_fault_of_ours(server: RunningServer) -> None:
    """Of a SeekHead, EBML number 114d9b74, whose SeekPosition is 2^64 - 1 (RFC 9559, 5.1.1)."""
    head = bytes.fromhex("1a45dfa38b4282886d6174726f736b611853806701ffffffffffffff53ac88ffffffffffffffff")
    refused = httpx.post(f"{server.url}/v1/classify", content=head + bytes(64), timeout=60)
    assert refused.status_code == 422
    assert "looks like matroska but cannot be decoded" in refused.json()["detail"]


@pytest.mark.parametrize("progressive", [False, True])
@pytest.mark.parametrize("share", [0.05, 0.5, 0.9])
def test_picture_that_is_cut_short_is_refused(server: RunningServer, share: float, progressive: bool) -> None:
    whole = io.BytesIO()
    pixels = np.random.default_rng(0).integers(0, 256, (240, 320, 3), np.uint8)
    Image.fromarray(pixels).save(whole, "JPEG", progressive=progressive)
    sent = whole.getvalue()[: int(share * len(whole.getvalue()))]
    refused = httpx.post(f"{server.url}/v1/classify", content=sent, timeout=60)
    assert refused.status_code == 422, refused.text
    assert "it is damaged or cut short" in refused.json()["detail"]
    # The marker of the end says nothing that the decoder needs, and cameras leave it out.
    assert httpx.post(f"{server.url}/v1/classify", content=whole.getvalue()[:-2], timeout=60).status_code == 200


@pytest.mark.parametrize(("kind", "size"), [("JPEG", (220, 294)), ("PNG", (250, 300))])
def test_limit_of_pixels_is_the_pictures_own(tmp_path: Path, kind: str, size: tuple[int, int]) -> None:
    """Not of what FFmpeg makes room for: it fills rows up."""
    exact, larger = io.BytesIO(), io.BytesIO()
    Image.new("RGB", size).save(exact, kind)
    Image.new("RGB", (size[0], size[1] + 1)).save(larger, kind)
    with serving(tmp_path, max_pixels=size[0] * size[1]) as server:
        url = f"{server.url}/v1/classify?show=frames"
        assert httpx.post(url, content=exact.getvalue(), timeout=60).status_code == 200
        refused = httpx.post(url, content=larger.getvalue(), timeout=60)
    assert (refused.status_code, refused.json()["code"]) == (422, "media_limit_exceeded")
    assert f"the limit is {size[0] * size[1]}: send a smaller picture" in refused.json()["detail"]


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (sound_alone(), "no video stream"),
        (claiming_samples(60_000_000), ""),
        (claiming_samples(0xFFFFFFFF), ""),
        (webp_of_16384_pixels_square(), ""),
    ],
    ids=["sound alone", "60 million samples", "as many samples as can be written", "huge WebP"],
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

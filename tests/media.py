"""Helpers that make and read real media files in tests."""

from __future__ import annotations

import io
import os
import struct
import tempfile
from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import contextmanager
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
from av.video.codeccontext import VideoCodecContext
from av.video.stream import VideoStream
from numpy.typing import NDArray

from service.manifest import Preprocessing, Sampling, Views
from service.media.decoding import decode_views
from service.media.frames import FrameSource, read_frames
from service.media.types import DecodeLimits, DecodeRequest, DecodeResult

LIMITS = DecodeLimits(max_pixels=4096 * 4096, max_frames=10_000, max_seconds=600, max_streams=8)


def decode_all(content: bytes, container_format: str | None = None) -> list[NDArray[np.uint8]]:
    """Return every frame of a file as RGB (H, W, 3), the plain way: open, decode, convert.

    FFmpeg does not recognise the shortest files by itself; it is then told their format.
    """
    with av.open(io.BytesIO(content), format=container_format) as container:
        return [np.asarray(frame.to_ndarray(format="rgb24")) for frame in container.decode(video=0)]


def decode_request(**changes: Any) -> DecodeRequest:
    """Return a request for one centre view of 8x4 frames at 96 pixels, with changes to its parts by field name."""
    fields: dict[str, dict[str, Any]] = {
        "preprocessing": {
            "resize": 96,
            "crop": (96, 96),
            "interpolation": "bilinear",
            "centering": "ceil",
            "mean": (0.45,) * 3,
            "std": (0.225,) * 3,
            "channels": "rgb",
        },
        "sampling": {"kind": "dense", "num_frames": 8, "rate": 4, "target_fps": 30.0},
        "views": {"clips": 1, "crops": 1, "single_crop": "center", "combine": "mean_logits"},
    }
    top: dict[str, Any] = {}
    for key, value in changes.items():
        owner = next((part for part in fields.values() if key in part), top)
        owner[key] = value
    return DecodeRequest(
        preprocessing=Preprocessing.model_validate(fields["preprocessing"]),
        sampling=Sampling.model_validate(fields["sampling"]),
        views=Views.model_validate(fields["views"]),
        **{"limits": LIMITS, **top},
    )


def decode(content: bytes, request: DecodeRequest) -> tuple[DecodeResult, NDArray[np.uint8]]:
    """Return the service's views of a file."""
    arrays: list[NDArray[np.uint8]] = []

    def allocate(shape: tuple[int, ...]) -> NDArray[np.uint8]:
        arrays.append(np.zeros(shape, np.uint8))
        return arrays[-1]

    result = decode_views(io.BytesIO(content), request, allocate)
    return result, arrays[-1]


def numbered_frames(count: int, height: int = 96, width: int = 128) -> NDArray[np.uint8]:
    """Return frames (count, H, W, 3) that all differ: a bright bar wanders over a slope of growing brightness."""
    slope = np.linspace(30, 120, width)[None, :, None] * np.array([1.0, 0.8, 0.6])
    frames = np.empty((count, height, width, 3), np.uint8)
    for i in range(count):
        frame = np.broadcast_to(slope + 60 * i / count, (height, width, 3)).copy()
        left = 5 * i % (width - 8)
        frame[:, left : left + 8] = (250, 40 + i % 100, 60)
        frames[i] = frame
    return frames


def encode(
    frames: NDArray[np.uint8],
    container: str = "mp4",
    codec: str = "libx264",
    fps: int = 30,
    options: dict[str, str] | None = None,
    container_options: dict[str, str] | None = None,
    pix_fmt: str = "yuv420p",
    stamps: Sequence[int] | None = None,
) -> bytes:
    """Return an encoded file of RGB frames, by FFmpeg's names and options; `stamps` count in units of 1 / fps."""
    with tempfile.TemporaryDirectory() as folder:
        # A real file, because some options (faststart) read it again.
        path = Path(folder) / "clip"
        with _kept_scheduling():
            _write(path, frames, container, codec, fps, options or {}, container_options or {}, pix_fmt, stamps)
        return path.read_bytes()


@contextmanager
def _kept_scheduling() -> Iterator[None]:
    """Undo what SVT-AV1 does where root runs it: it puts the process before every other one (SCHED_FIFO, 99).

    Threads that spin would then keep the kernel's own from the cores, and whatever waits for a page would never go on.
    """
    policy, parameters = os.sched_getscheduler(0), os.sched_getparam(0)
    try:
        yield
    finally:
        os.sched_setscheduler(0, policy, parameters)


def _write(
    path: Path,
    frames: NDArray[np.uint8],
    container: str,
    codec: str,
    fps: int,
    options: dict[str, str],
    container_options: dict[str, str],
    pix_fmt: str,
    stamps: Sequence[int] | None,
) -> None:
    with av.open(str(path), "w", format=container, options=container_options) as output:
        stream = output.add_stream(codec, rate=fps, options=options)
        assert isinstance(stream, VideoStream)
        stream.height, stream.width = frames.shape[1:3]
        stream.pix_fmt = pix_fmt
        stream.codec_context.thread_count = 1
        for number, pixels in enumerate(frames):
            frame = av.VideoFrame.from_ndarray(pixels, format="rgb24")
            if stamps is not None:
                frame.pts, frame.time_base = stamps[number], Fraction(1, fps)
            output.mux(stream.encode(frame))
        output.mux(stream.encode(None))


def with_rotation(mp4: bytes, clockwise: int) -> bytes:
    """Return the mp4 with a display matrix that turns it clockwise, as a phone's camera writes it."""
    cos, sin = {0: (1, 0), 90: (0, 1), 180: (-1, 0), 270: (0, -1)}[clockwise]
    return with_display_matrix(mp4, cos, sin, -sin, cos)


def with_display_matrix(mp4: bytes, a: int, b: int, c: int, d: int) -> bytes:
    """Return the mp4 with a display matrix that puts point (x, y) at (ax + cy, bx + dy)."""
    one = 1 << 16
    matrix = struct.pack(">9i", a * one, b * one, 0, c * one, d * one, 0, 0, 0, 1 << 30)
    # The matrix stands 40 bytes into a version-0 track header, behind the box's own 8 bytes.
    at = mp4.index(b"tkhd") + 4 + 40
    return mp4[:at] + matrix + mp4[at + 36 :]


def encode_two_sizes(
    first: NDArray[np.uint8], second: NDArray[np.uint8], container: str, codec: str, options: dict[str, str]
) -> bytes:
    """Return one stream whose picture changes from the size of the `first` frames to that of the `second` ones."""
    file = io.BytesIO()
    with av.open(file, "w", format=container) as output:
        stream = output.add_stream(codec, rate=30, options=options)
        assert isinstance(stream, VideoStream)
        for frames, start in ((first, 0), (second, len(first))):
            encoder = VideoCodecContext.create(codec, "w")
            encoder.options, encoder.thread_count = options, 1
            encoder.time_base, encoder.framerate = Fraction(1, 30), Fraction(30)
            encoder.height, encoder.width, encoder.pix_fmt = *frames.shape[1:3], "yuv420p"
            if start == 0:
                stream.height, stream.width, stream.pix_fmt = encoder.height, encoder.width, encoder.pix_fmt
            pictures = [av.VideoFrame.from_ndarray(pixels, format="rgb24") for pixels in frames]
            for number, picture in enumerate(pictures, start):
                picture.pts, picture.time_base = number, Fraction(1, 30)
            for packet in [packet for picture in [*pictures, None] for packet in encoder.encode(picture)]:
                packet.stream, packet.time_base = stream, Fraction(1, 30)
                output.mux(packet)
    return file.getvalue()


def remux(content: bytes, container: str, change: Callable[[int, Any], bool]) -> bytes:
    """Return the video in another container; `change` may alter packet number i and tells whether it stays."""
    file = io.BytesIO()
    with av.open(io.BytesIO(content)) as source, av.open(file, "w", format=container) as output:
        stream = output.add_stream_from_template(source.streams.video[0])
        for number, packet in enumerate(source.demux(video=0)):
            if packet.size and change(number, packet):
                packet.stream = stream
                output.mux(packet)
    return file.getvalue()


def keyframes(content: bytes) -> list[int]:
    """Return the numbers of the packets that the container marks as keyframes, in decoding order."""
    with av.open(io.BytesIO(content)) as source:
        return [number for number, packet in enumerate(source.demux(video=0)) if packet.is_keyframe]


def pick(content: bytes, wanted: Collection[int]) -> tuple[dict[int, NDArray[np.uint8]], int, int]:
    """Return the RGB frames that the service gets for `wanted`, how many frames it promises and how many it decoded."""

    def use(source: FrameSource) -> tuple[dict[int, NDArray[np.uint8]], int, int]:
        frames = [(number, np.asarray(frame.to_ndarray(format="rgb24"))) for number, frame in source.frames(wanted)]
        assert [number for number, _ in frames] == sorted(set(wanted))
        return dict(frames), len(source.index), source.decoded

    return read_frames(io.BytesIO(content), LIMITS, use)

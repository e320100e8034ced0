"""Helpers that make and read real media files in tests."""

from __future__ import annotations

import io
import struct
import tempfile
from pathlib import Path
from typing import Any

import av
import numpy as np
from av.video.stream import VideoStream
from numpy.typing import NDArray

from service.manifest import Preprocessing, Sampling, Views
from service.media.decoding import decode_views
from service.media.types import DecodeLimits, DecodeRequest, DecodeResult

LIMITS = DecodeLimits(max_pixels=4096 * 4096, max_frames=10_000, max_seconds=600, max_streams=8)


def decode_all(content: bytes) -> list[NDArray[np.uint8]]:
    """Return every frame of a file as RGB (H, W, 3), the plain way: open, decode, convert."""
    with av.open(io.BytesIO(content)) as container:
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
) -> bytes:
    """Return an encoded file of RGB frames, by FFmpeg's names and options."""
    with tempfile.TemporaryDirectory() as folder:
        # A real file, because some options (faststart) read it again.
        path = Path(folder) / "clip"
        _write(path, frames, container, codec, fps, options or {}, container_options or {}, pix_fmt)
        return path.read_bytes()


def _write(
    path: Path,
    frames: NDArray[np.uint8],
    container: str,
    codec: str,
    fps: int,
    options: dict[str, str],
    container_options: dict[str, str],
    pix_fmt: str,
) -> None:
    with av.open(str(path), "w", format=container, options=container_options) as output:
        stream = output.add_stream(codec, rate=fps, options=options)
        assert isinstance(stream, VideoStream)
        stream.height, stream.width = frames.shape[1:3]
        stream.pix_fmt = pix_fmt
        stream.codec_context.thread_count = 1
        for frame in frames:
            output.mux(stream.encode(av.VideoFrame.from_ndarray(frame, format="rgb24")))
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

"""Encode rendered clips with real codecs, reproducibly: clip number i of a seed is always the same."""

from __future__ import annotations

import io
from dataclasses import dataclass

import av
import numpy as np
from av.video.stream import VideoStream
from numpy.typing import NDArray

from demo.shapes import LABELS, Clip, render_clip

PICTURE_EVERY = 40


@dataclass(frozen=True)
class Encoding:
    """A container, an encoder and its options, by FFmpeg's names."""

    container: str
    codec: str
    options: dict[str, str]


def h264(crf: int) -> Encoding:
    """Return H.264 in mp4 at a constant rate factor, 0 (lossless) to 51."""
    return Encoding("mp4", "libx264", {"crf": str(crf), "preset": "veryfast"})


def vp9(crf: int) -> Encoding:
    """Return VP9 in WebM at a constant quality, 0 to 63."""
    return Encoding("webm", "libvpx-vp9", {"crf": str(crf), "b": "0", "deadline": "realtime", "cpu-used": "8"})


def mpeg4(quantiser: int) -> Encoding:
    """Return MPEG-4 part 2 in AVI at a fixed quantiser, 1 to 31."""
    return Encoding("avi", "mpeg4", {"qmin": str(quantiser), "qmax": str(quantiser)})


def encode_frames(frames: NDArray[np.uint8], fps: int, encoding: Encoding) -> bytes:
    """Return the encoded file of RGB frames (T, H, W, 3) with even H and W."""
    file = io.BytesIO()
    with av.open(file, "w", format=encoding.container) as container:
        stream = container.add_stream(encoding.codec, rate=fps, options=dict(encoding.options))
        assert isinstance(stream, VideoStream)
        stream.height, stream.width = frames.shape[1:3]
        stream.pix_fmt = "yuv420p"
        # One thread, so that the file does not depend on the machine.
        stream.codec_context.thread_count = 1
        for frame in frames:
            container.mux(stream.encode(av.VideoFrame.from_ndarray(frame, format="rgb24")))
        container.mux(stream.encode(None))
    return file.getvalue()


def encode_picture(picture: NDArray[np.uint8]) -> bytes:
    """Return the JPEG file of an RGB picture (H, W, 3)."""
    file = io.BytesIO()
    with av.open(file, "w", format="mjpeg") as container:
        stream = container.add_stream("mjpeg", rate=1)
        assert isinstance(stream, VideoStream)
        stream.height, stream.width = picture.shape[:2]
        stream.pix_fmt = "yuvj420p"
        container.mux(stream.encode(av.VideoFrame.from_ndarray(picture, format="rgb24")))
        container.mux(stream.encode(None))
    return file.getvalue()


def generate_clip(seed: int, number: int) -> Clip:
    """Return clip `number` of the endless set `seed`; the classes take turns."""
    rng = np.random.default_rng((seed, number))
    return render_clip(LABELS[number % len(LABELS)], rng)


def generate_file(seed: int, number: int, labels: str = "shapes") -> tuple[bytes, str]:
    """Return clip `number` of the set `seed` as a file, mostly H.264, some VP9 and MPEG-4, and its label of a set."""
    clip = generate_clip(seed, number)
    rng = np.random.default_rng((seed, number, 1))
    kind = rng.choice(["h264", "vp9", "mpeg4"], p=[0.7, 0.15, 0.15])
    if kind == "h264":
        encoding = h264(int(rng.integers(17, 31)))
    elif kind == "vp9":
        encoding = vp9(int(rng.integers(24, 46)))
    else:
        encoding = mpeg4(int(rng.integers(2, 10)))
    return encode_frames(clip.frames, clip.fps, encoding), clip.label_of(labels)


def generate_picture_file(seed: int, number: int, labels: str = "shapes") -> tuple[bytes, str]:
    """Return still picture `number` of the set `seed` as a JPEG file, and its label of a set."""
    clip = render_clip("still", np.random.default_rng((seed, number, 2)))
    return encode_picture(clip.frames[0]), clip.label_of(labels)


def generate_example(seed: int, number: int, labels: str) -> tuple[bytes, str]:
    """Return the file and the label of training example `number`: a clip, now and then a still picture."""
    generate = generate_picture_file if number % PICTURE_EVERY == 0 else generate_file
    return generate(seed, number, labels)

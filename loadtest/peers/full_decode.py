"""Bytes of a video to the frames of a model's protocol, with PyAV and OpenCV: what all servers but clipserve share.

The whole clip is decoded, then the frames are picked, as readers do that return a clip as one array. Only picked frames
are converted to RGB. Nothing is imported from clipserve: this is what somebody writes who has a model file and knows
how it was trained.
"""

from __future__ import annotations

import io
import json
from collections.abc import Iterable
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Literal

import av
import cv2
import numpy as np
from av.video.frame import VideoFrame
from av.video.stream import VideoStream
from numpy.typing import NDArray

ThreadType = Literal["SLICE", "AUTO"]


@dataclass(frozen=True)
class Protocol:
    """How the model looks at a video.

    Attributes:
        num_frames: Frames that go into the network.
        rate: Of so many frames at the target rate it sees one.
        target_fps: The target rate, frames a second.
        short_side: Of a resized frame.
        crop: Height and width of what is cut out of its centre.
    """

    num_frames: int
    rate: int
    target_fps: Fraction
    short_side: int
    crop: tuple[int, int]


@dataclass(frozen=True)
class Clip:
    """What the network gets.

    Attributes:
        pixels: RGB, (num_frames, height, width, 3).
        frames: Numbers of these frames in the video.
    """

    pixels: NDArray[np.uint8]
    frames: list[int]


def read_protocol(artefact: Path) -> Protocol:
    """Return the protocol of an artefact folder.

    Raises:
        ValueError: It is another than dense frames of one view, resized bilinearly.
    """
    manifest = json.loads((artefact / "manifest.json").read_text())
    sampling, views, rule = manifest["sampling"], manifest["views"], manifest["preprocessing"]
    kind = (sampling["kind"], views["clips"], views["crops"], rule["interpolation"], rule["centering"])
    if kind != ("dense", 1, 1, "bilinear", "ceil"):
        raise ValueError(f"{artefact}: the protocol {kind} is not written down here")
    height, width = rule["crop"]
    return Protocol(
        sampling["num_frames"], sampling["rate"], Fraction(sampling["target_fps"]), rule["resize"], (height, width)
    )


def frame_numbers(protocol: Protocol, count: int, fps: Fraction) -> list[int]:
    """Return which of `count` frames are picked: evenly, both ends included, from a span in the middle."""
    span = protocol.num_frames * protocol.rate * fps / protocol.target_fps
    start = int(max(count - span, Fraction(0)) / 2)
    step = (span - 1) / (protocol.num_frames - 1)
    return [min(int(start + step * i), count - 1) for i in range(protocol.num_frames)]


def decode_clip(upload: bytes, protocol: Protocol) -> Clip:
    """Decode all frames of a video, and pick."""
    with av.open(io.BytesIO(upload), "r") as container:
        stream = container.streams.video[0]
        decoded = list(container.decode(stream))
        frames = frame_numbers(protocol, len(decoded), frame_rate(stream))
        return Clip(prepare((decoded[frame] for frame in frames), protocol), frames)


def frame_rate(stream: VideoStream) -> Fraction:
    """Return the frames a second that the container states.

    Raises:
        ValueError: It states none.
    """
    if not stream.average_rate:
        raise ValueError("the container states no frame rate")
    return stream.average_rate


def prepare(picked: Iterable[VideoFrame], protocol: Protocol) -> NDArray[np.uint8]:
    """Return frames as RGB with the short side as the protocol says, cropped in the centre."""
    height, width = protocol.crop
    pixels = np.empty((protocol.num_frames, height, width, 3), np.uint8)
    for position, frame in enumerate(picked):
        scale = Fraction(protocol.short_side, min(frame.width, frame.height))
        size = int(frame.width * scale), int(frame.height * scale)
        resized = cv2.resize(frame.to_ndarray(format="rgb24"), size, interpolation=cv2.INTER_LINEAR)
        top, left = -((height - size[1]) // 2), -((width - size[0]) // 2)
        pixels[position] = resized[top : top + height, left : left + width]
    return pixels

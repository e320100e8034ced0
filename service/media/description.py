"""What a decoded frame looks like to a viewer, and what that says of the upload.

Pixels count as square, whatever the file says of their shape: the loaders of the papers' code (OpenCV, decord, PyAV)
give the stored ones.
"""

from __future__ import annotations

import numpy as np
from av.video.frame import VideoFrame
from numpy.typing import NDArray

from service.media import orientation
from service.media.frames import FrameSource
from service.media.types import MediaInfo


def orientation_of(source: FrameSource, frame: VideoFrame) -> int:
    """Return how a frame is to be turned, as an EXIF number: a picture's own tag, or the frame's display matrix."""
    return orientation.display_orientation(frame) if source.orientation is None else source.orientation


def describe(source: FrameSource, frame: VideoFrame, turn: int) -> MediaInfo:
    """Return what the upload is, its size being that of `frame` once it is turned."""
    index = source.index
    width, height = frame.width, frame.height
    if orientation.swaps_sides(turn):
        width, height = height, width
    return MediaInfo(
        kind=source.format.kind,
        format=source.format.name,
        codec=source.codec,
        width=width,
        height=height,
        frames=len(index),
        fps=round(float(index.fps), 3) if index.fps else None,
        duration_seconds=None if index.duration is None else round(index.duration, 3),
        rotation=orientation.CLOCKWISE_DEGREES[turn],
    )


def upright_rgb(source: FrameSource, frame: VideoFrame, turn: int) -> NDArray[np.uint8]:
    """Return a frame's pixels as a viewer shows them, uint8 RGB (H, W, 3)."""
    return orientation.upright(source.rgb(frame), turn)

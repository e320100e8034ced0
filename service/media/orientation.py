"""Turn stored pixels the way a viewer shows them: EXIF orientation of pictures, display matrix of videos."""

from __future__ import annotations

import struct
from typing import BinaryIO

import numpy as np
from av.sidedata.sidedata import SideData
from av.video.frame import VideoFrame
from numpy.typing import NDArray

from service.media import jpeg, png, webp
from service.media.exif import orientation_tag

UPRIGHT = 1
# Clockwise degrees that a viewer turns a picture of that EXIF orientation (2, 4, 5 and 7 are mirrored as well).
CLOCKWISE_DEGREES = {1: 0, 2: 0, 3: 180, 4: 180, 5: 270, 6: 90, 7: 90, 8: 270}
# By the signs of a, b, c, d of a display matrix, which puts point (x, y) at (ax + cy, bx + dy), y downwards.
_BY_DISPLAY_MATRIX = {
    (1, 0, 0, 1): 1,
    (-1, 0, 0, 1): 2,
    (-1, 0, 0, -1): 3,
    (1, 0, 0, -1): 4,
    (0, 1, 1, 0): 5,
    (0, 1, -1, 0): 6,
    (0, -1, -1, 0): 7,
    (0, -1, 1, 0): 8,
}
# By the clockwise degrees of a turn alone.
_BY_TURN = {0: 1, 90: 6, 180: 3, 270: 8}
_EXIF_READERS = {"jpeg": jpeg.exif, "png": png.exif, "apng": png.exif, "webp": webp.exif}


def exif_orientation(file: BinaryIO, format_name: str) -> int:
    """Return the EXIF orientation (1 to 8) of a picture; 1 where there is none or it is damaged.

    FFmpeg's rotation misses mirrored orientations, so the tag is read itself.

    Raises:
        MediaLimitError: The file has too many parts to look for it.
    """
    if format_name not in _EXIF_READERS:
        return UPRIGHT
    orientation = orientation_tag(_EXIF_READERS[format_name](file))
    return orientation if orientation in CLOCKWISE_DEGREES else UPRIGHT


def display_orientation(frame: VideoFrame) -> int:
    """Return the EXIF number for a video frame's display matrix; 1 where there is none, or one that is slanted.

    The frame's `rotation` alone would take a mirrored picture for one that is upside down. It is all there is where a
    frame has side data of a type that PyAV does not know, as each of Motion JPEG with EXIF has.
    """
    try:
        matrix = frame.side_data.get("DISPLAYMATRIX")
    except ValueError:
        # Counter-clockwise.
        return _BY_TURN.get(-frame.rotation % 360, UPRIGHT)
    if not isinstance(matrix, SideData):
        return UPRIGHT
    a, b, _, c, d = struct.unpack_from("=5i", bytes(matrix))
    signs = tuple((value > 0) - (value < 0) for value in (a, b, c, d))
    return _BY_DISPLAY_MATRIX.get(signs, UPRIGHT)


def upright(frame: NDArray[np.uint8], orientation: int) -> NDArray[np.uint8]:
    """Return the frame (H, W, 3) as a viewer shows it, or itself if upright; H and W swap for orientations 5 to 8."""
    if orientation == UPRIGHT:
        return frame
    if orientation in (2, 5, 7):
        frame = frame[:, ::-1]
    if orientation == 4:
        frame = frame[::-1]
    # 5 is a mirror image that then turns like 8, 7 one that turns like 6.
    turns = {3: 2, 5: 1, 6: -1, 7: -1, 8: 1}.get(orientation, 0)
    return np.ascontiguousarray(np.rot90(frame, turns)) if turns else np.ascontiguousarray(frame)


def swaps_sides(orientation: int) -> bool:
    """Tell whether height and width change places."""
    return orientation >= 5

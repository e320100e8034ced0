"""Turn stored pixels the way a viewer shows them: EXIF orientation of pictures, display matrix of videos."""

from __future__ import annotations

from typing import BinaryIO

import numpy as np
from numpy.typing import NDArray
from PIL import ExifTags, Image

UPRIGHT = 1
# Clockwise degrees that a viewer turns a picture of that EXIF orientation (2, 4, 5 and 7 are mirrored as well).
CLOCKWISE_DEGREES = {1: 0, 2: 0, 3: 180, 4: 180, 5: 270, 6: 90, 7: 90, 8: 270}
_BY_DISPLAY_ANGLE = {0: 1, 90: 8, -90: 6, 270: 6, -270: 8, 180: 3, -180: 3}
# PNG may carry the tag too, but PIL would decode the whole picture to look for it.
_PIL_FORMATS = {"jpeg": "JPEG", "webp": "WEBP"}


def exif_orientation(file: BinaryIO, format_name: str) -> int:
    """Return the EXIF orientation (1 to 8) of a picture; 1 where there is none or it is damaged.

    FFmpeg's rotation misses mirrored orientations, so the tag is read itself.
    """
    if format_name not in _PIL_FORMATS:
        return UPRIGHT
    file.seek(0)
    try:
        with Image.open(file, formats=[_PIL_FORMATS[format_name]]) as picture:
            orientation = picture.getexif().get(ExifTags.Base.Orientation, UPRIGHT)
    except Exception:
        # A damaged tag must not fail a picture that decodes; PIL raises nearly anything on hostile metadata.
        return UPRIGHT
    return orientation if orientation in CLOCKWISE_DEGREES else UPRIGHT


def display_orientation(angle: int) -> int:
    """Return the EXIF number for a display matrix that turns the frame `angle` degrees counter-clockwise."""
    return _BY_DISPLAY_ANGLE.get(angle, UPRIGHT)


def upright(frame: NDArray[np.uint8], orientation: int) -> NDArray[np.uint8]:
    """Return the frame (H, W, 3) as a viewer shows it; H and W swap for orientations 5 to 8."""
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

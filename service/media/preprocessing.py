"""From a decoded RGB frame to the uint8 crops that a network sees: resize and crop, as the papers do it.

The papers normalise first and resize in float. A resize is a weighted mean, so it commutes with normalisation; resizing
the uint8 frame and rounding differs from the papers' pipeline by at most one grey level (proved by a test on decoded
frames) and moves a quarter of the bytes. Normalisation itself sits inside the exported graph.
"""

from __future__ import annotations

from math import ceil
from typing import Literal

import cv2
import numpy as np
from numpy.typing import NDArray
from PIL import Image

from service.manifest import Preprocessing

CropName = Literal["left", "center", "right", "top", "bottom"]

_PIL_FILTERS = {"bicubic": Image.Resampling.BICUBIC, "bilinear_antialias": Image.Resampling.BILINEAR}


def resized_size(height: int, width: int, short_side: int) -> tuple[int, int]:
    """Return (height, width) with the short side at `short_side`, the long side floored (PySlowFast transform.py)."""
    if width <= height:
        return height * short_side // width, short_side
    return short_side, width * short_side // height


def resize(frame: NDArray[np.uint8], preprocessing: Preprocessing) -> NDArray[np.uint8]:
    """Resize an RGB frame (H, W, 3) so that its short side is `preprocessing.resize`."""
    height, width = resized_size(frame.shape[0], frame.shape[1], preprocessing.resize)
    if (height, width) == frame.shape[:2]:
        return frame
    if preprocessing.interpolation == "bilinear":
        # Four neighbours, half-pixel centres, no antialiasing: torch's interpolate with align_corners=False.
        resized = cv2.resize(frame, (width, height), interpolation=cv2.INTER_LINEAR)
        return np.asarray(resized, dtype=np.uint8)
    filtered = Image.fromarray(frame).resize((width, height), _PIL_FILTERS[preprocessing.interpolation])
    return np.asarray(filtered)


def crop_names(height: int, width: int, crops: int, single_crop: Literal["center", "first"]) -> tuple[CropName, ...]:
    """Return the names of the crops of a picture of that shape, in the order of the views."""
    names: tuple[CropName, ...] = ("left", "center", "right") if height <= width else ("top", "center", "bottom")
    if crops == 3:
        return names
    return ("center",) if single_crop == "center" else names[:1]


def crop_offset(
    height: int, width: int, crop: tuple[int, int], name: CropName, centering: Literal["ceil", "round"]
) -> tuple[int, int]:
    """Return the (top, left) corner of crop `name` in a resized picture (reference: PySlowFast uniform_crop)."""
    free_y, free_x = height - crop[0], width - crop[1]
    # Python's round goes to the even neighbour, as torchvision's CenterCrop does.
    top, left = (round(free / 2) if centering == "round" else ceil(free / 2) for free in (free_y, free_x))
    ends = {"left": (top, 0), "right": (top, free_x), "top": (0, left), "bottom": (free_y, left)}
    return ends.get(name, (top, left))

"""From a decoded RGB frame to the uint8 pixels that a network sees: resize, crop and align, as the papers do it.

The papers normalise first and resize in float. A resize is a weighted mean, so it commutes with normalisation; resizing
the uint8 frame and rounding differs from the papers' pipeline by at most one grey level (proved by a test on decoded
frames) and moves a quarter of the bytes. Normalisation itself sits inside the exported graph.
"""

from __future__ import annotations

from fractions import Fraction
from math import ceil, floor
from typing import Literal

import cv2
import numpy as np
from numpy.typing import NDArray
from PIL import Image

from service.manifest import Preprocessing, WholePicture
from service.manifest.shapes import aligned_side

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
        return resize_bilinear(frame, (height, width))
    filtered = Image.fromarray(frame).resize((width, height), _PIL_FILTERS[preprocessing.interpolation])
    return np.asarray(filtered)


def resize_bilinear(frame: NDArray[np.uint8], size: tuple[int, int]) -> NDArray[np.uint8]:
    """Resize an RGB frame (H, W, 3) to (height, width) from four neighbours a pixel, without antialiasing.

    Half-pixel centres: torch's interpolate with align_corners=False, and what mmcv's resize calls.
    """
    if frame.shape[:2] == size:
        return frame
    return np.asarray(cv2.resize(frame, size[::-1], interpolation=cv2.INTER_LINEAR), dtype=np.uint8)


def whole_size(height: int, width: int, rule: WholePicture, short_side: int | None) -> tuple[int, int]:
    """Return (height, width) of a whole picture after the resize that keeps its ratio (mmcv's imrescale).

    `short_side` takes the place of the rule's; the longest side allowed grows with it.
    """
    short = short_side or rule.short_side
    long = Fraction(rule.max_long_side * short, rule.short_side)
    scale = min(Fraction(short, min(height, width)), long / max(height, width))
    return max(1, floor(height * scale + Fraction(1, 2))), max(1, floor(width * scale + Fraction(1, 2)))


def aligned_size(size: tuple[int, int]) -> tuple[int, int]:
    """Return both sides raised to the next multiple of 32, and to 64 at least: the sizes that the networks take."""
    return aligned_side(size[0]), aligned_side(size[1])


def align(frame: NDArray[np.uint8], rule: WholePicture) -> NDArray[np.uint8]:
    """Bring an RGB picture (H, W, 3) to its aligned size, as the rule says."""
    height, width = aligned_size((frame.shape[0], frame.shape[1]))
    if rule.align == "stretch":
        return resize_bilinear(frame, (height, width))
    filled = np.empty((height, width, 3), np.uint8)
    filled[:] = np.round(np.array(rule.mean if rule.channels == "rgb" else rule.mean[::-1]) * 255)
    filled[: frame.shape[0], : frame.shape[1]] = frame
    return filled


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

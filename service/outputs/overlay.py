"""Masks for people: the picture with its classes blended in, and a legend of what was found below it."""

from __future__ import annotations

import io
from collections.abc import Iterable, Sequence
from fractions import Fraction
from typing import Literal

import av
import cv2
import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

from service.errors import BadParameterError
from service.manifest import Colour
from service.outputs.bands import bands
from service.outputs.masks import Mask, class_areas

Picture = NDArray[np.uint8]

OPACITY = 0.5
JPEG_QUALITY = 90
Format = Literal["JPEG", "H.264"]
# What libjpeg and libx264 can write, pixels.
_LONGEST_SIDES: dict[Format, int] = {"JPEG": 65500, "H.264": 16384}
# The slowest rate that is written, frames a second: mp4 has no time for much longer frames.
SLOWEST = Fraction(1, 1001)
_MARGIN_COLOUR, _TEXT_COLOUR = (24, 24, 24), (240, 240, 240)
_NARROWEST_LEGEND = 240
_TEXT_PIXELS = (12, 36)
_MOST_ENTRIES = 24


def overlay(picture: Picture, mask: Mask, palette: tuple[Colour, ...], legend: Picture) -> Picture:
    """Return the picture (H, W, 3) with the colours of its classes blended in, above the legend.

    The narrower of the two is filled up with the legend's ground.
    """
    table = np.zeros((256, 3), np.uint8)
    table[: len(palette)] = palette
    height, width = mask.shape
    joined = np.empty((height + len(legend), max(width, legend.shape[1]), 3), np.uint8)
    joined[:] = _MARGIN_COLOUR
    for rows in bands(mask.shape):
        joined[rows, :width] = cv2.addWeighted(picture[rows], 1 - OPACITY, table[mask[rows]], OPACITY, 0)
    joined[height:, : legend.shape[1]] = legend
    return joined


def overlay_size(mask: Mask, legend: Picture, target: Format) -> tuple[int, int]:
    """Return height and width of the overlay of a picture.

    Raises:
        BadParameterError: A side is longer than the format that it is to be written in can have.
    """
    height, width = len(mask) + len(legend), max(mask.shape[1], legend.shape[1])
    if max(height, width) > (limit := _LONGEST_SIDES[target]):
        raise BadParameterError(
            f"output=overlay would be {width}x{height} pixels with its legend, and a side of {target} has at most "
            f"{limit}: ask for output=png or rle, which take any size"
        )
    return height, width


def draw_legend(masks: Sequence[Mask], labels: tuple[str, ...], palette: tuple[Colour, ...]) -> Picture:
    """Return a panel (h, w, 3), as wide as the masks, that names the classes found in them, largest share first."""
    areas = np.sum([class_areas(mask, len(labels)) for mask in masks], axis=0)
    found = [int(index) for index in np.argsort(-areas, kind="stable") if areas[index]]
    total = int(areas.sum())
    entries = [(palette[index], f"{labels[index]} {areas[index] / total:.1%}") for index in found[:_MOST_ENTRIES]]
    if len(found) > len(entries):
        rest = int(areas[found[_MOST_ENTRIES:]].sum())
        entries.append((_MARGIN_COLOUR, f"{len(found) - len(entries)} more {rest / total:.1%}"))
    return _draw_entries(entries, max(masks[0].shape[1], _NARROWEST_LEGEND))


def _draw_entries(entries: list[tuple[Colour, str]], width: int) -> Picture:
    text = min(max(width // 40, _TEXT_PIXELS[0]), _TEXT_PIXELS[1])
    font = ImageFont.load_default(text)
    line = round(text * 1.6)
    column = max(font.getlength(name) for _, name in entries) + 2.5 * text
    columns = max(1, int(width // column))
    panel = Image.new("RGB", (width, line * -(-len(entries) // columns) + line // 2), _MARGIN_COLOUR)
    draw = ImageDraw.Draw(panel)
    for number, (colour, name) in enumerate(entries):
        x, y = int(number % columns * column) + text // 2, number // columns * line + line // 3
        draw.rectangle((x, y, x + text - 1, y + text - 1), fill=colour)
        draw.text((x + 1.4 * text, y + text / 2), name, font=font, fill=_TEXT_COLOUR, anchor="lm")
    return np.asarray(panel)


def to_jpeg(picture: Picture) -> bytes:
    """Encode a picture (H, W, 3)."""
    buffer = io.BytesIO()
    Image.fromarray(picture).save(buffer, "JPEG", quality=JPEG_QUALITY)
    return buffer.getvalue()


def to_mp4(pictures: Iterable[Picture], size: tuple[int, int], fps: Fraction) -> bytes:
    """Encode pictures (H, W, 3) of (height, width) `size` as H.264 in mp4, one after the other as they come.

    A side of odd length loses its last pixel. A rate below SLOWEST becomes that.
    """
    buffer = io.BytesIO()
    height, width = (side // 2 * 2 for side in size)
    with av.open(buffer, "w", format="mp4") as container:
        options = {"crf": "20", "preset": "veryfast"}
        stream = container.add_stream("libx264", rate=max(fps, SLOWEST), options=options)
        stream.width, stream.height, stream.pix_fmt = width, height, "yuv420p"
        for picture in pictures:
            frame = av.VideoFrame.from_ndarray(np.ascontiguousarray(picture[:height, :width]), format="rgb24")
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    return buffer.getvalue()

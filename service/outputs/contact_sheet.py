"""What the network saw, as one picture: views as rows, their frames from left to right, exactly as they went in."""

from __future__ import annotations

import io
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

_GAP = 4
_TEXT = 12
_LINE = 16
_GROUND, _INK = (24, 24, 24), (240, 240, 240)
# Many long clips would make a picture that no viewer opens; it then shows every second pixel, or every third...
_MOST_PIXELS = 40_000_000


@dataclass(frozen=True)
class SheetRow:
    """One view, or one row of a picture's windows.

    Attributes:
        title: What it is.
        captions: One for each of its frames.
    """

    title: str
    captions: Sequence[str]


def contact_sheet(title: str, rows: Sequence[SheetRow], frames: NDArray[np.uint8]) -> bytes:
    """Return a PNG of the views' frames with their titles and captions.

    Args:
        title: Written above everything.
        rows: One for each view.
        frames: uint8 RGB, (views, T, H, W, 3), or (rows, windows, H, W, 3); pasted pixel by pixel, or thinned out
            evenly if they are too many.
    """
    step = next(step for step in range(1, frames.shape[3] + 1) if frames[..., ::step, ::step, 0].size <= _MOST_PIXELS)
    if step > 1:
        title += f" (every {step}. pixel)"
    shown = frames[:, :, ::step, ::step]
    _, count, height, width = shown.shape[:4]
    font = ImageFont.load_default(_TEXT)
    texts = [caption for row in rows for caption in row.captions]
    column = max(width, *(int(font.getlength(text)) for text in texts)) + _GAP
    line = _LINE + height + _LINE + _GAP
    sheet_width = max(_GAP + count * column, int(font.getlength(title)) + 2 * _GAP)
    sheet = Image.new("RGB", (sheet_width, _LINE + _GAP + len(rows) * line), _GROUND)
    draw = ImageDraw.Draw(sheet)
    draw.text((_GAP, _GAP), title, font=font, fill=_INK)
    for number, (row, view) in enumerate(zip(rows, shown, strict=True)):
        top = _LINE + _GAP + number * line
        draw.text((_GAP, top), row.title, font=font, fill=_INK)
        for position, (caption, frame) in enumerate(zip(row.captions, view, strict=True)):
            left = _GAP + position * column
            sheet.paste(Image.fromarray(np.ascontiguousarray(frame)), (left, top + _LINE))
            draw.text((left, top + _LINE + height), caption, font=font, fill=_INK)
    buffer = io.BytesIO()
    sheet.save(buffer, "PNG", compress_level=1)
    return buffer.getvalue()

"""Refuse uploads that are small but would keep a decoder busy: by their outline, before a decoder sees them."""

from __future__ import annotations

from typing import BinaryIO

from service.media import jpeg, matroska, mp4, png
from service.media.formats import APNG, JPEG, MATROSKA, MOV, MP4, PNG, WEBM, ContainerFormat


def screen(file: BinaryIO, container_format: ContainerFormat) -> None:
    """Look through the parts of a file that can be many, or large beyond all proportion when they are read.

    Raises:
        MediaLimitError: They are.
        UnsupportedMediaError: They cannot be looked at.
    """
    if container_format in (PNG, APNG):
        png.check_data(file, animated=container_format is APNG)
        png.check_extras(file)
    elif container_format is JPEG:
        jpeg.check_segments(file)
    elif container_format in (MP4, MOV):
        mp4.check_tables(file)
    elif container_format in (MATROSKA, WEBM):
        matroska.check_tags(file)

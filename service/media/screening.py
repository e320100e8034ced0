"""Refuse uploads that are small but would keep a decoder busy: by their outline, before a decoder sees them."""

from __future__ import annotations

from collections.abc import Callable
from io import BytesIO
from typing import BinaryIO

from av.packet import Packet
from av.video.stream import VideoStream

from service.media import bmp, jpeg, matroska, mp4, png, webp
from service.media.formats import APNG, BMP, JPEG, MATROSKA, MOV, MP4, PNG, WEBM, WEBP, ContainerFormat

# Codecs of pictures, whose packets can hold whatever a file of that format can.
PICTURE_CODECS = ("mjpeg", "png")
_FIELDS = 2  # An interlaced frame of Motion JPEG is two pictures.
_SIZES: dict[ContainerFormat, Callable[[BinaryIO], tuple[int, int]]] = {
    PNG: png.size,
    APNG: png.size,
    JPEG: jpeg.size,
    WEBP: webp.size,
    BMP: bmp.size,
}


def stated_size(file: BinaryIO, container_format: ContainerFormat) -> tuple[int, int]:
    """Return width and height as a picture's header says; zeros of formats whose size FFmpeg tells by itself.

    Raises:
        MediaLimitError: The header is nowhere near the beginning.
    """
    read = _SIZES.get(container_format)
    return (0, 0) if read is None else read(file)


def screen(file: BinaryIO, container_format: ContainerFormat) -> None:
    """Look through the parts of a file that can be many, or large beyond all proportion when they are read.

    Raises:
        MediaLimitError: They are.
        UndecodableMediaError: The file is cut short.
        UnsupportedMediaError: They cannot be looked at, or the format has a form that FFmpeg does not decode.
    """
    if container_format in (PNG, APNG):
        png.check_data(file, animated=container_format is APNG)
        png.check_extras(file)
    elif container_format is JPEG:
        jpeg.check_segments(file)
    elif container_format in (MP4, MOV):
        mp4.check_tables(file)
    elif container_format in (MATROSKA, WEBM):
        matroska.check_head(file)
    elif container_format is WEBP:
        webp.check_still(file)


def screen_packet(packet: Packet[VideoStream], codec: str) -> None:
    """Look at a frame of a video in the same way, if it is coded as a picture.

    Raises:
        MediaLimitError: It would keep the decoder busy out of all proportion.
    """
    if codec not in PICTURE_CODECS:
        return
    file = BytesIO(bytes(packet))
    if codec == "mjpeg":
        jpeg.check_segments(file, pictures=_FIELDS)
    else:
        png.check_data(file, animated=False)
        png.check_extras(file)

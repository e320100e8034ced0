"""Decode an upload into whole pictures: itself, or the frames of a video at even times."""

from __future__ import annotations

from collections.abc import Callable
from fractions import Fraction
from math import ceil
from typing import BinaryIO

import numpy as np
from numpy.typing import NDArray

from service.errors import BadParameterError, MediaLimitError
from service.media.description import describe, orientation_of, upright_rgb
from service.media.frames import FrameSource, read_frames
from service.media.preprocessing import align, aligned_size, resize_bilinear, whole_size
from service.media.probing import check_pixels
from service.media.timing import FrameIndex, as_written
from service.media.types import MediaInfo, PictureRequest, PictureResult

Allocate = Callable[[tuple[int, ...]], NDArray[np.uint8]]


def decode_pictures(
    file: BinaryIO, request: PictureRequest, allocate: Allocate, allocate_originals: Allocate
) -> PictureResult:
    """Decode an upload into the pictures that `request` asks for.

    Args:
        file: The upload; any object with read, seek and tell.
        request: Which frames, how resized, within which limits.
        allocate: Called with the shape (N, height, width, 3) of the resized pictures; returns the array to fill.
        allocate_originals: The same for the pictures at the upload's size, called if they are asked for.

    Raises:
        UnsupportedMediaError, UndecodableMediaError, MediaLimitError: See service.errors.
        BadParameterError: The times select no frame, or too many.
    """
    return read_frames(
        file, request.limits, lambda source: _PictureMaker(source, request, allocate, allocate_originals).run()
    )


def frames_at(index: FrameIndex, start: float | None, end: float | None, fps: float) -> list[int]:
    """Return the numbers of the frames that show at even times, `fps` a second, from `start` to `end`; none twice.

    Raises:
        BadParameterError: `start` and `end` select no frame.
    """
    first, count = index.between(start, end)
    begin = Fraction(0) if start is None else as_written(start)
    step = 1 / as_written(fps)
    numbers = []
    for number in range(first, first + count):
        until = index.until(number) if end is None else min(index.until(number), as_written(end))
        next_sample = begin + max(0, ceil((index.time(number) - begin) / step)) * step
        # How long the very last frame shows may be unknown.
        if number == first or next_sample < until:
            numbers.append(number)
    return numbers


class _PictureMaker:
    """Fills the pictures of one request from one pass over the frames."""

    def __init__(
        self, source: FrameSource, request: PictureRequest, allocate: Allocate, allocate_originals: Allocate
    ) -> None:
        self.source = source
        self.request = request
        self.allocate = allocate
        self.allocate_originals = allocate_originals

    def run(self) -> PictureResult:
        request, index = self.request, self.source.index
        self.source.check_start(request.start)
        numbers = [0] if self.source.format.kind == "image" else self._numbers(index)
        media: MediaInfo | None = None
        for position, (number, frame) in enumerate(self.source.frames(numbers)):
            assert number == numbers[position]
            check_pixels(frame.width, frame.height, request.limits)
            if media is None:
                turn = orientation_of(self.source, frame)
                media = describe(self.source, frame, turn)
                size = whole_size(media.height, media.width, request.preprocessing, request.short_side)
                pictures, originals = self._arrays(len(numbers), size, (media.height, media.width))
            # A video whose frames change their size is answered at the size of the first one.
            original = resize_bilinear(upright_rgb(self.source, frame, turn), (media.height, media.width))
            pictures[position] = align(resize_bilinear(original, size), request.preprocessing)
            if originals is not None:
                originals[position] = original
        assert media is not None
        return PictureResult(
            media=media,
            frames=tuple(numbers),
            times=tuple(round(float(index.time(number)), 6) for number in numbers),
            content=aligned_size(size) if request.preprocessing.align == "stretch" else size,
            shape=pictures.shape,
            original_shape=None if originals is None else originals.shape,
            frames_decoded=self.source.decoded,
        )

    def _numbers(self, index: FrameIndex) -> list[int]:
        request = self.request
        numbers = frames_at(index, request.start, request.end, request.fps)
        if len(numbers) > request.max_pictures:
            raise BadParameterError(
                f"fps={request.fps:g} asks for {len(numbers)} frames of this video; the limit is "
                f"{request.max_pictures}: ask for fewer a second, or for a part of it by start and end"
            )
        return numbers

    def _arrays(
        self, count: int, size: tuple[int, int], original_size: tuple[int, int]
    ) -> tuple[NDArray[np.uint8], NDArray[np.uint8] | None]:
        aligned, asked = aligned_size(size), self.request.short_side
        cure = "send smaller ones, or ask for fewer" if asked is None else f"ask for a short_side below {asked}"
        for what, (height, width) in (("", original_size), (" as the model sees them", aligned)):
            if count * height * width > self.request.max_total_pixels:
                raise MediaLimitError(
                    f"{count} pictures of {width}x{height}{what} are {count * height * width} pixels; the limit is "
                    f"{self.request.max_total_pixels}: {cure}"
                )
        pictures = self.allocate((count, *aligned, 3))
        return pictures, self.allocate_originals((count, *original_size, 3)) if self.request.originals else None

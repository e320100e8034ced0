"""Turn decoded frames into 8-bit RGB as loaders do: PIL and OpenCV those of pictures, FFmpeg those of videos.

JPEG and lossy WebP have fewer samples of chroma than of luma. libjpeg and libwebp interpolate them; FFmpeg by default
repeats them, which differs by up to 130 grey levels along edges. With the flags below it differs by four.
"""

from __future__ import annotations

import numpy as np
from av.video.frame import VideoFrame
from av.video.plane import VideoPlane
from av.video.reformatter import Interpolation, VideoReformatter
from numpy.typing import NDArray

# All three: without the last two FFmpeg goes a faster way, which interpolates in one direction or none.
_INTERPOLATED = Interpolation.BILINEAR | Interpolation.ACCURATE_RND | Interpolation.FULL_CHR_H_INT


class RgbConverter:
    """Converts the frames of one upload; to set up another converter costs more than to convert a small picture."""

    def __init__(self, picture: bool) -> None:
        """Make a converter of pictures, whose chroma is interpolated, or one of the frames of videos."""
        self._flags = _INTERPOLATED if picture else None
        self._reformatter = VideoReformatter()

    def convert(self, frame: VideoFrame) -> NDArray[np.uint8]:
        """Return the pixels (H, W, 3) of a frame, in the colours that its tags ask for; only rows lie in one piece.

        Grey, palette and 16-bit pixels become 8-bit RGB. Transparency is dropped, as the authors' loaders drop it.
        """
        source = frame if self._flags is None else _with_even_sides(frame)
        # No threads: one core a worker.
        converted = self._reformatter.reformat(source, format="rgb24", interpolation=self._flags, threads=1)
        plane = converted.planes[0]
        # In place: rows may have bytes behind their pixels, without which they would have to be copied.
        shape = converted.height, converted.width, 3
        pixels = np.ndarray(shape, np.uint8, memoryview(plane), strides=(plane.line_size, 3, 1))
        return pixels[: frame.height, : frame.width]


def _with_even_sides(frame: VideoFrame) -> VideoFrame:
    """Return the frame with as many pixels as its samples of chroma are for, or itself if it has them.

    FFmpeg would spread the 34 samples of a row over its 67 pixels, where the last of them reaches beyond the picture.
    """
    width, height = frame.width + frame.width % 2, frame.height + frame.height % 2
    # Not of the planes, among which a palette is one.
    subsampled = any((part.width, part.height) != (frame.width, frame.height) for part in frame.format.components)
    if not subsampled or (width, height) == (frame.width, frame.height):
        return frame
    filled = VideoFrame(width, height, frame.format.name)
    filled.colorspace, filled.color_range = frame.colorspace, frame.color_range
    for old, new in zip(frame.planes, filled.planes, strict=True):
        samples = _samples(old)
        missing = new.height - old.height, new.width - old.width
        _samples(new)[:] = np.pad(samples, [(0, count) for count in missing], mode="edge")
    return filled


def _samples(plane: VideoPlane) -> NDArray[np.uint8]:
    """Return the samples (H, W) of a plane in place; those of subsampled pictures have 8 bits."""
    return np.ndarray((plane.height, plane.width), np.uint8, memoryview(plane), strides=(plane.line_size, 1))

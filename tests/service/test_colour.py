"""Colours come out as the file's tags say, against the formulas of the standards."""

import io
from fractions import Fraction

import av
import numpy as np
import pytest
from av.video.reformatter import ColorRange, Colorspace
from av.video.stream import VideoStream

from tests.media import decode, decode_request

# Weights of red and blue in luma: ITU-R BT.601-7, 2.5.1; BT.709-6, 3.2.
WEIGHTS = {Colorspace.ITU601: (0.299, 0.114), Colorspace.ITU709: (0.2126, 0.0722)}
LUMA, BLUENESS, REDNESS = 110, 90, 170  # inside of the narrow range, far from grey


def one_colour(matrix: Colorspace, colour_range: ColorRange) -> bytes:
    """Return an H.264 clip without losses, all of whose samples are the colour above, tagged as asked."""
    file = io.BytesIO()
    with av.open(file, "w", format="mp4") as container:
        stream = container.add_stream("libx264", rate=30, options={"qp": "0"})
        assert isinstance(stream, VideoStream)
        stream.width, stream.height, stream.pix_fmt = 128, 96, "yuv420p"
        stream.codec_context.colorspace = matrix
        stream.codec_context.color_range = colour_range
        for number in range(32):
            frame = av.VideoFrame(128, 96, "yuv420p")
            for plane, value in zip(frame.planes, (LUMA, BLUENESS, REDNESS), strict=True):
                plane.update(bytes([value]) * plane.buffer_size)
            frame.pts, frame.time_base = number, Fraction(1, 30)
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    return file.getvalue()


def expected(matrix: Colorspace, colour_range: ColorRange) -> list[float]:
    red_weight, blue_weight = WEIGHTS[matrix]
    narrow = colour_range == ColorRange.MPEG
    luma = (LUMA - 16) * 255 / 219 if narrow else LUMA
    scale = 255 / 224 if narrow else 1.0
    blueness, redness = (BLUENESS - 128) * scale, (REDNESS - 128) * scale
    red, blue = luma + 2 * (1 - red_weight) * redness, luma + 2 * (1 - blue_weight) * blueness
    green = (luma - red_weight * red - blue_weight * blue) / (1 - red_weight - blue_weight)
    return [red, green, blue]


@pytest.mark.parametrize("colour_range", [ColorRange.MPEG, ColorRange.JPEG], ids=["narrow range", "full range"])
@pytest.mark.parametrize("matrix", [Colorspace.ITU601, Colorspace.ITU709], ids=["BT.601", "BT.709"])
def test_matrix_and_range_of_the_tags_are_used(matrix: Colorspace, colour_range: ColorRange) -> None:
    _, views = decode(one_colour(matrix, colour_range), decode_request())
    difference = views.reshape(-1, 3) - np.array(expected(matrix, colour_range))
    # FFmpeg converts in integers, and is off by two levels and a little; the other matrix or range by more than seven.
    assert abs(difference).max() < 3

"""Colours come out as the file's tags say, by the formulas of the standards; those of pictures as PIL reads them."""

import io
from fractions import Fraction

import av
import cv2
import numpy as np
import pytest
from av.video.reformatter import ColorRange, Colorspace
from av.video.stream import VideoStream
from PIL import Image

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


def coloured_edges(height: int, width: int) -> Image.Image:
    """Return a picture of discs within each other whose colours differ in chroma more than in luma."""
    pixels = np.full((height, width, 3), (30, 60, 200), np.uint8)
    for number, colour in enumerate([(220, 40, 40), (40, 160, 60), (200, 60, 200), (150, 130, 20)]):
        radius = max(height, width) * (4 - number) // 9
        cv2.circle(pixels, (width // 2 + number, height // 2 - number), radius, colour, -1)
    return Image.fromarray(pixels)


@pytest.mark.parametrize(("height", "width"), [(48, 64), (64, 47), (47, 64), (45, 67), (178, 267)])
@pytest.mark.parametrize(
    ("kind", "options"),
    [
        ("JPEG", {"subsampling": "4:2:0"}),
        ("JPEG", {"subsampling": "4:2:2"}),
        ("JPEG", {"subsampling": "4:4:4"}),
        ("WEBP", {}),
    ],
    ids=["JPEG 4:2:0", "JPEG 4:2:2", "JPEG 4:4:4", "WebP"],
)
def test_chroma_of_a_picture_is_interpolated_as_pil_does(
    kind: str, options: dict[str, str], height: int, width: int
) -> None:
    file = io.BytesIO()
    coloured_edges(height, width).save(file, kind, quality=90, **options)
    expected = np.asarray(Image.open(file).convert("RGB")).astype(int)
    side = min(height, width)
    # Nothing is resized; the first and the last crop together have the whole picture.
    _, views = decode(file.getvalue(), decode_request(resize=side, crop=(side, side), crops=3))
    for view, pixels in ((views[0], expected[:side, :side]), (views[2], expected[-side:, -side:])):
        # Both round in integers. Where chroma is repeated, or spread over a side, edges are off by more than 50.
        assert abs(view[0] - pixels).max() <= 4


@pytest.mark.parametrize("kind", ["PNG", "BMP"])
@pytest.mark.parametrize(("height", "width"), [(48, 64), (47, 64), (48, 65), (47, 65)])
def test_palette_is_read_as_pil_does(kind: str, height: int, width: int) -> None:
    file = io.BytesIO()
    coloured_edges(height, width).convert("P", palette=Image.Palette.ADAPTIVE).save(file, kind)
    expected = np.asarray(Image.open(file).convert("RGB"))
    _, views = decode(file.getvalue(), decode_request(resize=height, crop=(height, height), crops=3))
    assert np.array_equal(views[0][0], expected[:, :height])
    assert np.array_equal(views[2][0], expected[:, -height:])

import numpy as np
import pytest
import torch
from torch.nn import functional

from demo.clips import encode_frames, generate_clip, h264
from service.manifest import Preprocessing, WholePicture
from service.media.preprocessing import (
    align,
    aligned_size,
    crop_names,
    crop_offset,
    resize,
    resized_size,
    whole_size,
)
from tests.media import decode_all

MEAN, STD = 0.45, 0.225


def rule(short_side: int, crop: int, interpolation: str = "bilinear") -> Preprocessing:
    centering = "ceil" if interpolation == "bilinear" else "round"
    return Preprocessing.model_validate(
        {
            "resize": short_side,
            "crop": (crop, crop),
            "interpolation": interpolation,
            "centering": centering,
            "mean": (MEAN,) * 3,
            "std": (STD,) * 3,
            "channels": "rgb",
        }
    )


# What PySlowFast's slowfast/datasets/transform.py gives: source, short side, crop index -> resized, top, left.
@pytest.mark.parametrize(
    ("source", "short_side", "index", "resized", "corner"),
    [
        ((240, 320), 256, 1, (256, 341), (16, 59)),
        ((240, 320), 224, 0, (224, 298), (0, 0)),
        ((240, 320), 224, 1, (224, 298), (0, 37)),
        ((240, 320), 224, 2, (224, 298), (0, 74)),
        ((360, 640), 256, 1, (256, 455), (16, 116)),
        ((340, 256), 256, 1, (340, 256), (58, 16)),
        ((426, 240), 224, 2, (397, 224), (173, 0)),
        ((270, 480), 224, 1, (224, 398), (0, 87)),
    ],
)
def test_resize_and_crop_geometry(
    source: tuple[int, int], short_side: int, index: int, resized: tuple[int, int], corner: tuple[int, int]
) -> None:
    assert resized_size(*source, short_side) == resized
    name = crop_names(*resized, 3, "center")[index]
    assert crop_offset(*resized, (224, 224), name, "ceil") == corner


def test_one_crop_is_the_centre_or_the_first() -> None:
    assert crop_names(224, 300, 1, "center") == ("center",)
    assert crop_names(224, 300, 1, "first") == ("left",)
    assert crop_names(300, 224, 1, "first") == ("top",)


def test_image_pipelines_split_odd_margins_as_torchvision_does() -> None:
    # torchvision CenterCrop: int(round((341 - 224) / 2.0)) = 58, where the video loaders take ceil = 59.
    assert crop_offset(256, 341, (224, 224), "center", "round") == (16, 58)


@pytest.mark.parametrize("number", range(6))
@pytest.mark.parametrize("short_side", [96, 224, 256])
def test_video_pixels_equal_the_papers_float_pipeline(number: int, short_side: int) -> None:
    """Normalise, resize in float, crop (PySlowFast); against resize in uint8, round, normalise afterwards."""
    clip = generate_clip(31, number)
    frame = decode_all(encode_frames(clip.frames, clip.fps, h264(20)))[len(clip.frames) // 2]
    x = (torch.from_numpy(frame).permute(2, 0, 1)[None].float() / 255 - MEAN) / STD
    height, width = resized_size(*frame.shape[:2], short_side)
    x = functional.interpolate(x, size=(height, width), mode="bilinear", align_corners=False)
    expected = ((x[0] * STD + MEAN) * 255).permute(1, 2, 0).numpy()
    ours = resize(frame, rule(short_side, 96))
    assert ours.shape == (height, width, 3)
    difference = np.abs(ours.astype(np.int64) - np.rint(expected).astype(np.int64))
    assert difference.max() <= 1
    # Rounding alone cannot explain a shift of the sampling grid: most pixels must be exact.
    assert (difference == 0).mean() > 0.8


def test_image_pixels_equal_pil_bicubic() -> None:
    from PIL import Image

    rng = np.random.default_rng(0)
    picture = rng.integers(0, 256, (300, 400, 3), dtype=np.uint8)
    expected = np.asarray(Image.fromarray(picture).resize((341, 256), Image.Resampling.BICUBIC))
    assert np.array_equal(resize(picture, rule(256, 224, "bicubic")), expected)


def whole_rule(align: str) -> WholePicture:
    return WholePicture.model_validate(
        {
            "short_side": 512,
            "max_long_side": 2048,
            "align": align,
            "window": 512,
            "mean": (0.485, 0.456, 0.406),
            "std": (0.229, 0.224, 0.225),
            "channels": "rgb",
        }
    )


# mmcv's imrescale worked out by hand: scale = min(2048 / long, 512 / short), each side int(side * scale + 0.5).
@pytest.mark.parametrize(
    ("size", "short_side", "resized", "aligned"),
    [
        ((480, 640), None, (512, 683), (512, 704)),
        ((427, 640), None, (512, 767), (512, 768)),
        ((640, 427), None, (767, 512), (768, 512)),
        ((1, 1), None, (512, 512), (512, 512)),
        ((17, 3000), None, (12, 2048), (64, 2048)),
        ((4000, 6000), None, (512, 768), (512, 768)),
        ((4000, 6000), 1024, (1024, 1536), (1024, 1536)),
        ((100, 1000), 1024, (410, 4096), (416, 4096)),
    ],
)
def test_whole_pictures_keep_their_ratio_within_both_bounds(
    size: tuple[int, int], short_side: int | None, resized: tuple[int, int], aligned: tuple[int, int]
) -> None:
    assert whole_size(*size, whole_rule("stretch"), short_side) == resized
    assert aligned_size(resized) == aligned


def test_aligned_sizes_are_exact_however_large() -> None:
    """As integers: a side of 2^53 + 1 is no float, and one of 400 digits is none by far."""
    for side in (2**53 + 1, 10**400):
        assert aligned_size((side, 33)) == (side + -side % 32, 64)


def test_padding_is_the_mean_colour_at_the_right_and_the_bottom() -> None:
    picture = np.random.default_rng(3).integers(0, 256, (70, 65, 3), dtype=np.uint8)
    padded = align(picture, whole_rule("pad"))
    assert padded.shape == (96, 96, 3)
    assert np.array_equal(padded[:70, :65], picture)
    for filled in (padded[70:], padded[:, 65:]):
        assert (filled == [124, 116, 104]).all()  # 255 times the mean, rounded
    assert align(picture, whole_rule("stretch")).shape == (96, 96, 3)

"""Scene files and the size at which a segmentation network sees them."""

import io

import numpy as np
import pytest
from PIL import Image

from demo.scene_files import encode_jpeg, generate_scene_file
from demo.whole_picture import kept_ratio, stretched

SEED = 77


def picture_of(content: bytes) -> np.ndarray:
    with Image.open(io.BytesIO(content)) as picture:
        return np.asarray(picture.convert("RGB"))


# Worked out by hand: 512 short, or 2048 long for pictures longer than 4:1, then up to multiples of 32.
@pytest.mark.parametrize(
    ("picture", "expected"),
    [
        ((512, 512), (512, 512)),
        ((480, 640), (512, 704)),  # 512 x 682.67
        ((640, 480), (704, 512)),
        ((100, 400), (512, 2048)),
        ((100, 1000), (224, 2048)),  # 204.8 x 2048
        ((3000, 20), (2048, 64)),  # 2048 x 13.65; 64 is the least that the network takes
    ],
)
def test_size_at_which_the_network_sees_a_picture(picture: tuple[int, int], expected: tuple[int, int]) -> None:
    assert stretched(kept_ratio(picture, 512, 2048)) == expected


def test_scene_files_are_reproducible_pngs_and_jpegs() -> None:
    for number, file_format in enumerate(["PNG", "JPEG", "PNG", "JPEG"]):
        content, mask = generate_scene_file(SEED, number)
        assert content == generate_scene_file(SEED, number)[0]
        with Image.open(io.BytesIO(content)) as picture:
            assert picture.format == file_format
            assert (picture.height, picture.width) == mask.shape


def test_jpegs_hold_what_was_drawn() -> None:
    content, _ = generate_scene_file(SEED, 0)
    drawn = picture_of(content)
    decoded = picture_of(encode_jpeg(drawn, 90)).astype(np.float32)
    assert np.abs(decoded - drawn).mean() < 8

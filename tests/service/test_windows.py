"""Sliding windows against the whole thing in one piece, computed by torch."""

import tracemalloc
from itertools import pairwise

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from service.manifest import WholePicture
from service.outputs.masks import enlarge
from service.outputs.windows import Stitcher, WindowGrid, bytes_of_logits, window_grid

RULE = WholePicture(
    short_side=128, max_long_side=512, align="stretch", window=128, mean=(0, 0, 0), std=(1, 1, 1), channels="rgb"
)
SIZES = [(544, 128), (128, 544), (288, 320), (256, 1024), (608, 416)]


def test_pictures_up_to_the_rules_own_size_are_seen_whole() -> None:
    for size in ((128, 512), (512, 128), (64, 64), (256, 256), (64, 512)):
        assert window_grid(size, RULE) == WindowGrid(size, size, (0,), (0,))


def test_pictures_longer_than_the_rules_own_are_cut_however_few_pixels_they_have() -> None:
    # Two thirds of their width apart at most, in multiples of 32; the last one ends with the picture.
    assert window_grid((64, 544), RULE) == WindowGrid((64, 544), (64, 128), (0,), (0, 64, 128, 192, 256, 320, 384, 416))


@pytest.mark.parametrize("size", SIZES)
def test_windows_cover_the_picture_and_overlap(size: tuple[int, int]) -> None:
    grid = window_grid(size, RULE)
    assert grid.window == (128, 128)
    for length, offsets in zip(size, (grid.tops, grid.lefts), strict=True):
        assert (offsets[0], offsets[-1] + 128) == (0, length)
        for offset, following in pairwise(offsets):
            assert offset < following <= offset + 96
    picture = np.random.default_rng(0).integers(0, 256, (*size, 3), dtype=np.uint8)
    row = grid.row(picture, len(grid.tops) - 1)
    assert np.array_equal(row[0], picture[grid.tops[-1] :, :128])


@pytest.mark.parametrize("size", SIZES)
def test_stitched_mask_is_that_of_the_averaged_logits(size: tuple[int, int]) -> None:
    rng = np.random.default_rng(1)
    grid = window_grid(size, RULE)
    # Windows that disagree where they overlap, so that the average matters.
    windows = rng.normal(size=(len(grid.tops), len(grid.lefts), 5, 32, 32)).astype(np.float32)
    sums = np.zeros((5, size[0] // 4, size[1] // 4))
    counts = np.zeros(sums.shape[1:])
    for top, row in zip(grid.tops, windows, strict=True):
        for left, window in zip(grid.lefts, row, strict=True):
            place = np.s_[top // 4 : top // 4 + 32, left // 4 : left // 4 + 32]
            sums[:, *place] += window
            counts[place] += 1
    averaged = torch.from_numpy((sums / counts)[None].astype(np.float32))
    expected = torch.nn.functional.interpolate(averaged, size=size, mode="bilinear", align_corners=False)[0]
    stitcher = Stitcher(grid, 5)
    for number, row in enumerate(windows):
        stitcher.add_row(number, list(row))
    mask = stitcher.mask()
    assert mask.shape == size
    assert (mask == expected.argmax(dim=0).numpy()).mean() > 0.9999


def disc(size: int) -> NDArray[np.uint8]:
    y, x = (np.indices((size, size)) + 0.5) / size - 0.5
    return (np.hypot(x, y) < 0.37).astype(np.uint8) * 7


def test_enlarged_borders_are_smoother_than_those_of_nearest_pixels() -> None:
    small, large = disc(64), disc(512)
    enlarged = enlarge(small, (512, 512))
    nearest = np.kron(small, np.ones((8, 8), np.uint8))
    assert set(np.unique(enlarged)) == {0, 7}
    assert (enlarged != large).sum() < 0.8 * (nearest != large).sum()


def test_mask_of_the_right_size_stays_as_it_is() -> None:
    mask = np.random.default_rng(2).integers(0, 200, (31, 57), dtype=np.uint8)
    assert np.array_equal(enlarge(mask, (31, 57)), mask)


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("classes", [4, 150])
def test_bytes_of_logits_are_what_stitching_takes(size: tuple[int, int], classes: int) -> None:
    grid = window_grid(size, RULE)
    picture = np.zeros((*size, 3), np.uint8)
    tracemalloc.start()
    try:
        stitcher = Stitcher(grid, classes)
        for number in range(len(grid.tops)):
            windows = len(grid.row(picture, number))
            stitcher.add_row(number, list(np.zeros((windows, classes, 32, 32), np.float32)))
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    # Beside the mask, which has a byte a pixel.
    taken = peak - size[0] * size[1]
    assert 0.5 * bytes_of_logits(grid, classes) < taken < bytes_of_logits(grid, classes)

"""Masks at the size of their pictures against whole planes enlarged by torch, and the memory that they take."""

import tracemalloc
from collections.abc import Callable

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from pycocotools import mask as coco

from service.manifest import Colour
from service.outputs.masks import enlarge, mask_of_logits, segments
from service.outputs.overlay import overlay

MEBIBYTE = 1 << 20
# The first is of one band of rows, the others of several; one is wider than a band has pixels.
SIZES = [(301, 200), (1700, 1900), (5000, 61), (7, 300_000), (1, 1)]


def enlarged(planes: torch.Tensor, size: tuple[int, int]) -> torch.Tensor:
    return torch.nn.functional.interpolate(planes[None], size=size, mode="bilinear", align_corners=False)[0]


def assert_strongest(mask: NDArray[np.uint8], planes: torch.Tensor) -> None:
    """Check that each pixel has the class of the largest of planes (classes, H, W), or one that is as good as it."""
    chosen = planes.gather(0, torch.from_numpy(mask.astype(np.int64))[None])[0]
    assert (planes.amax(dim=0) - chosen).max() < 2e-3
    assert (mask == planes.argmax(dim=0).numpy()).mean() > 0.999


@pytest.mark.parametrize("size", SIZES)
def test_mask_of_logits_is_the_arg_max_of_whole_planes(size: tuple[int, int]) -> None:
    logits = np.random.default_rng(3).normal(size=(5, 24, 40)).astype(np.float32)
    planes = enlarged(torch.from_numpy(logits).double(), (96, 160))[:, :90, :155]
    mask = mask_of_logits(logits, (96, 160), (90, 155), size)
    assert mask.shape == size
    assert_strongest(mask, enlarged(planes, size))


@pytest.mark.parametrize("size", SIZES)
def test_enlarged_mask_has_the_class_of_most_votes(size: tuple[int, int]) -> None:
    small = np.random.default_rng(4).integers(0, 5, (90, 155), dtype=np.uint8)
    votes = torch.stack([torch.from_numpy(small == index).double() for index in range(5)])
    planes = enlarged(votes, size)
    mask = enlarge(small, size)
    chosen = planes.gather(0, torch.from_numpy(mask.astype(np.int64))[None])[0]
    # Votes are often equal, so that many classes may be right.
    assert (planes.amax(dim=0) - chosen).max() < 2e-3


def peak_bytes(work: Callable[[], object]) -> int:
    tracemalloc.start()
    try:
        work()
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


def test_what_is_computed_on_the_way_does_not_grow_with_the_area() -> None:
    size = (4000, 4000)
    rng = np.random.default_rng(5)
    logits = rng.normal(size=(4, 128, 128)).astype(np.float32)
    small = rng.integers(0, 4, (512, 512), dtype=np.uint8)
    large = np.zeros(size, np.uint8)
    picture, legend = np.zeros((*size, 3), np.uint8), np.zeros((20, 4000, 3), np.uint8)
    palette: tuple[Colour, ...] = ((1, 2, 3),)
    masks = size[0] * size[1]
    # What is returned, and 12 MiB beside it; a plane of float32 alone would take 61.
    assert peak_bytes(lambda: mask_of_logits(logits, (512, 512), (512, 512), size)) < masks + 12 * MEBIBYTE
    assert peak_bytes(lambda: enlarge(small, size)) < masks + 12 * MEBIBYTE
    assert peak_bytes(lambda: overlay(picture, large, palette, legend)) < 3 * masks + 12 * MEBIBYTE
    # Run lengths are made of a copy with the class alone, in another order.
    assert peak_bytes(lambda: segments(large, ("a",), palette)) < 2 * masks + 12 * MEBIBYTE


@pytest.mark.parametrize("classes", [1, 2, 5])
@pytest.mark.parametrize("size", [(1, 1), (1, 9), (9, 1), (64, 48)])
def test_run_lengths_are_those_of_coco(size: tuple[int, int], classes: int) -> None:
    mask = np.random.default_rng(classes).integers(0, classes, size, np.uint8)
    labels, palette = tuple("abcde"), tuple((level, 0, 0) for level in range(5))
    for segment in segments(mask, labels, palette):
        present = np.asfortranarray(mask == segment.index, dtype=np.uint8)
        assert segment.counts == coco.encode(present)["counts"].decode()

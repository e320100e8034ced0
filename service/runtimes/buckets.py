"""Batches of any size on a runtime that has a few fixed sizes."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

# Takes views, and the fixed size that they are to be run at; returns a row for each view.
RunAtSize = Callable[[NDArray[np.uint8], int], NDArray[Any]]


def powers_of_two(largest: int) -> tuple[int, ...]:
    """Return the sizes for batches of up to `largest` views when none are set: 1, 2, 4 and so on, and `largest`."""
    return (*(1 << power for power in range((largest - 1).bit_length())), largest)


def run_in_buckets(frames: NDArray[np.uint8], sizes: Sequence[int], run: RunAtSize) -> NDArray[Any]:
    """Run views in parts of the largest of the ascending sizes at most, each at the smallest size that holds it."""
    largest = sizes[-1]
    parts = [frames[start : start + largest] for start in range(0, len(frames), largest)]
    rows = [run(part, next(size for size in sizes if size >= len(part))) for part in parts]
    return rows[0] if len(rows) == 1 else np.concatenate(rows)

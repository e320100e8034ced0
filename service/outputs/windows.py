"""Look at a picture that is too large for one run through overlapping windows, and average where they overlap.

Everything happens on the grid of the network's coarse logits, a quarter of the picture's size, and no more than one row
of windows is held at a time: beside the picture and its mask, a byte a pixel, memory grows with the picture's width and
not with its area.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from math import prod

import cv2
import numpy as np
from numpy.typing import NDArray

from service.manifest import WholePicture
from service.manifest.shapes import SIDE_MULTIPLE

COARSE = 4  # pixels a side for one coarse logit
_LOGIT_BYTES = 4
# Of a pixel while its classes are compared: the best logit, that of a class and the next one's, and two bytes.
_COMPARED_BYTES = 14
_OVERLAP = 1 / 3  # of a window's side, at least


@dataclass(frozen=True)
class WindowGrid:
    """Where the windows of a picture lie.

    Attributes:
        size: Height and width of the picture.
        window: Height and width of every window.
        tops, lefts: Offsets of the rows and columns of windows.
    """

    size: tuple[int, int]
    window: tuple[int, int]
    tops: tuple[int, ...]
    lefts: tuple[int, ...]

    @property
    def count(self) -> int:
        """Number of windows."""
        return len(self.tops) * len(self.lefts)

    def row(self, picture: NDArray[np.uint8], number: int) -> NDArray[np.uint8]:
        """Return the windows of row `number`: (windows, height, width, 3)."""
        height, width = self.window
        top = self.tops[number]
        return np.stack([picture[top : top + height, left : left + width] for left in self.lefts])


def window_grid(size: tuple[int, int], rule: WholePicture) -> WindowGrid:
    """Return one window as large as the picture, or a grid of square ones where the network does not take that at once.

    Args:
        size: Height and width of the picture, multiples of 32.
        rule: Says what the network takes.
    """
    if rule.takes(*size):
        return WindowGrid(size, size, (0,), (0,))
    window = (min(rule.window, size[0]), min(rule.window, size[1]))
    return WindowGrid(size, window, _offsets(size[0], window[0]), _offsets(size[1], window[1]))


def bytes_of_logits(grid: WindowGrid, classes: int) -> int:
    """Return the bytes that the logits of one picture take at most on the way to its mask.

    Those are the coarse logits of a row of windows. Of several windows, what `Stitcher` takes counts too: the windows
    themselves, which are copies, the sums, and what is finished of those, which is there twice while it is put together
    and is enlarged then.
    """
    pixels = len(grid.lefts) * prod(grid.window)
    row = _LOGIT_BYTES * classes * pixels // COARSE**2
    if grid.count == 1:
        return row
    covered = grid.window[0] * grid.size[1]
    sums = _LOGIT_BYTES * classes * covered // COARSE**2
    return row + 3 * pixels + 3 * sums + _COMPARED_BYTES * covered


def _offsets(length: int, window: int) -> tuple[int, ...]:
    step = max(int(window * (1 - _OVERLAP)) // SIDE_MULTIPLE * SIDE_MULTIPLE, SIDE_MULTIPLE)
    # The last window ends with the picture and may overlap more than the others.
    return (*range(0, length - window, step), length - window)


class Stitcher:
    """Puts rows of windows together into a mask.

    Args:
        grid: Where the windows lie.
        classes: Number of classes.
    """

    def __init__(self, grid: WindowGrid, classes: int) -> None:
        self._grid = grid
        height, width = grid.window[0] // COARSE, grid.size[1] // COARSE
        # The rows of the grid of coarse logits that the present row of windows covers.
        self._sums = np.zeros((classes, height, width), np.float32)
        self._counts = np.zeros((height, width), np.float32)
        self._above: NDArray[np.float32] | None = None
        self._mask = np.empty(grid.size, np.uint8)
        self._written = 0

    def add_row(self, number: int, logits: Sequence[NDArray[np.float32]]) -> None:
        """Take the coarse logits (classes, height/4, width/4) of the windows of row `number`, from left to right."""
        grid = self._grid
        width = grid.window[1] // COARSE
        for left, window in zip(grid.lefts, logits, strict=True):
            columns = slice(left // COARSE, left // COARSE + width)
            self._sums[:, :, columns] += window
            self._counts[:, columns] += 1
        is_last = number + 1 == len(grid.tops)
        finished = self._counts.shape[0] if is_last else (grid.tops[number + 1] - grid.tops[number]) // COARSE
        self._write(self._sums[:, :finished] / self._counts[:finished], is_last)
        self._move_down(finished)

    def _move_down(self, rows: int) -> None:
        for array in (self._sums, self._counts):
            kept = array.shape[-2] - rows
            array[..., :kept, :] = array[..., rows:, :].copy()
            array[..., kept:, :] = 0

    def _write(self, rows: NDArray[np.float32], is_last: bool) -> None:
        """Enlarge finished rows; what lies between the last one and its lower neighbour waits for that."""
        is_first = self._above is None
        if self._above is not None:
            rows = np.concatenate([self._above, rows], axis=1)
        self._above = rows[:, -1:].copy()
        half = COARSE // 2
        height = rows.shape[1] * COARSE
        part = _arg_max(rows, (height, self._grid.size[1]))[0 if is_first else half : height if is_last else -half]
        self._mask[self._written : self._written + len(part)] = part
        self._written += len(part)

    def mask(self) -> NDArray[np.uint8]:
        """Return the class of each pixel, uint8 (H, W), once all rows are there."""
        assert self._written == len(self._mask)
        return self._mask


def _arg_max(logits: NDArray[np.float32], size: tuple[int, int]) -> NDArray[np.uint8]:
    """Return the class with the largest of logits (classes, h, w) enlarged to `size`, one class at a time."""
    return strongest((cv2.resize(plane, size[::-1], interpolation=cv2.INTER_LINEAR) for plane in logits), size)


def strongest(planes: Iterator[NDArray[np.float32]], size: tuple[int, int]) -> NDArray[np.uint8]:
    """Return the index of the plane that is largest at each pixel, the first of equals; two planes are held at a time.

    Args:
        planes: At most 256 planes (H, W) of non-negative numbers or logits.
        size: H and W.
    """
    best = np.full(size, -np.inf, np.float32)
    index = np.zeros(size, np.uint8)
    for number, plane in enumerate(planes):
        better = plane > best
        np.copyto(best, plane, where=better)
        np.copyto(index, number, where=better)
    return index

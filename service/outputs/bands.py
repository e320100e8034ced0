"""Whole pictures a band of rows at a time: what is computed on the way takes a few megabytes, however many pixels."""

from __future__ import annotations

from collections.abc import Iterator

import cv2
import numpy as np
from numpy.typing import NDArray

_PIXELS = 1 << 18  # of one band: few enough for a processor's cache, and enough that calls do not cost more than pixels


def bands(size: tuple[int, int]) -> Iterator[slice]:
    """Yield the rows of a picture of (height, width) `size` in order, as many at a time as make up a band."""
    height, width = size
    step = max(1, _PIXELS // width)
    for top in range(0, height, step):
        yield slice(top, min(top + step, height))


class BandResize:
    """Bilinear resizing of a plane, of which a band of rows is wanted and not more than its rows are needed.

    The rows are those of cv2.resize on the whole plane, to the bit where that runs on Intel's IPP.

    Args:
        source: Rows of the plane.
        target: Rows that it is resized to.
        rows: Those that are wanted.

    Attributes:
        needed: The rows of the plane that they lie between.
    """

    def __init__(self, source: int, target: int, rows: slice) -> None:
        centres = (np.arange(rows.start, rows.stop) + 0.5) * (source / target) - 0.5
        inside = centres.clip(0, source - 1)
        above = np.floor(inside).astype(np.intp)
        self.needed = slice(int(above[0]), min(int(above[-1]) + 2, source))
        self._above = above - self.needed.start
        # float64 with the values of float32: IPP multiplies and adds without rounding in between.
        self._share = (inside - above).astype(np.float32).astype(np.float64)[:, None]

    def resize(self, plane: NDArray[np.float32], width: int) -> NDArray[np.float32]:
        """Return the wanted rows, float32 (rows, width), from the needed ones, float32 (needed, W)."""
        wide = cv2.resize(plane, (width, len(plane)), interpolation=cv2.INTER_LINEAR)
        # The last row has none below it, and no share of it.
        steps = np.diff(wide, axis=0, append=wide[-1:])
        return np.asarray(wide[self._above] + steps[self._above] * self._share, dtype=np.float32)

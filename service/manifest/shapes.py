"""Which sizes of pictures segmentation networks take: both sides multiples of SIDE_MULTIPLE, from SMALLEST_SIDE on."""

from __future__ import annotations

SIDE_MULTIPLE, SMALLEST_SIDE = 32, 64


def aligned_side(side: int) -> int:
    """Return the next side, not less than that one, that the networks take."""
    return max(SMALLEST_SIDE, -(-side // SIDE_MULTIPLE) * SIDE_MULTIPLE)


def shapes_of_views(
    usual: tuple[int, ...], max_long_side: int | None
) -> tuple[tuple[int, ...], tuple[int, ...], tuple[int, ...]]:
    """Return the smallest, the usual and the largest shape of a view.

    Args:
        usual: The shape of a view, (..., H, W, 3).
        max_long_side: Of pictures that are taken whole (`service.manifest.WholePicture`); None: all views are alike.
    """
    if max_long_side is None:
        return usual, usual, usual
    # High ones and wide ones; what is both has too many pixels and is not run.
    largest = aligned_side(max_long_side)
    return (SMALLEST_SIDE, SMALLEST_SIDE, 3), usual, (largest, largest, 3)


def roomiest_view(short_side: int, max_long_side: int) -> tuple[int, int, int]:
    """Return the shape of a view with as many pixels as any that is run.

    Args:
        short_side, max_long_side: Of pictures that are taken whole (`service.manifest.WholePicture`).
    """
    return aligned_side(short_side), aligned_side(max_long_side), 3

"""Mean IoU by hand."""

import numpy as np
import pytest

from demo.mean_iou import MeanIoU


def test_pixels_are_counted_over_the_whole_set() -> None:
    result = MeanIoU(3)
    result.add(np.array([[0, 0, 1, 1]], np.uint8), np.array([[0, 1, 1, 1]], np.uint8))
    result.add(np.array([[1], [0]], np.uint8), np.array([[0], [0]], np.uint8))
    # Class 0: 2 of 4 pixels in both; class 1: 2 of 4. Means of the two pictures would be 0.583 and 0.25.
    assert result.per_class[:2] == pytest.approx([0.5, 0.5])
    assert np.isnan(result.per_class[2])
    assert result.mean == pytest.approx(0.5)


def test_perfect_and_hopeless_masks() -> None:
    truth = np.arange(12, dtype=np.uint8).reshape(3, 4) % 3
    perfect, hopeless = MeanIoU(3), MeanIoU(3)
    perfect.add(truth, truth)
    hopeless.add(truth, (truth + 1) % 3)
    assert perfect.mean == 1.0
    assert hopeless.mean == 0.0


def test_masks_of_different_sizes_are_refused() -> None:
    with pytest.raises(ValueError, match=r"\(4, 3\), the true one \(3, 4\)"):
        MeanIoU(2).add(np.zeros((3, 4), np.uint8), np.zeros((4, 3), np.uint8))

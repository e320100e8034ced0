"""Mean intersection over union of predicted masks, over a whole set of pictures."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray


class MeanIoU:
    """Counts pixels of (true class, predicted class) over all pictures, of whatever sizes."""

    def __init__(self, num_classes: int) -> None:
        self.counts = np.zeros((num_classes, num_classes), np.int64)

    def add(self, truth: NDArray[np.uint8], predicted: NDArray[np.uint8]) -> None:
        """Count one picture's masks of class indices (H, W).

        Raises:
            ValueError: The masks differ in shape.
        """
        if truth.shape != predicted.shape:
            raise ValueError(f"the predicted mask is {predicted.shape}, the true one {truth.shape}")
        classes = len(self.counts)
        pairs = truth.astype(np.int64) * classes + predicted
        self.counts += np.bincount(pairs.ravel(), minlength=classes**2).reshape(classes, classes)

    @property
    def per_class(self) -> NDArray[np.float64]:
        """Pixels in both over pixels in either, for each class; nan for classes that no mask has."""
        both = np.diag(self.counts)
        either = self.counts.sum(axis=0) + self.counts.sum(axis=1) - both
        with np.errstate(invalid="ignore"):
            return np.asarray(both / either)

    @property
    def mean(self) -> float:
        """Mean of the classes that there are."""
        return float(np.nanmean(self.per_class))

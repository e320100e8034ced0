"""The parity check of a load: a view that every export and every load makes alike, and what torch said of it.

An artefact is verified where it is made. What runs it elsewhere, another runtime, version, precision or processor, may
compute something else without a word; one run tells before any request comes.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from service.manifest.schema import PrecisionName

# What the logits may differ by, as a share of their spread. Far above what a precision costs on this view, for another
# processor rounds otherwise; far below what a wrongly computed graph does: unrelated logits differ by 1 or more.
LIMITS: dict[PrecisionName, float] = {"fp32": 1e-3, "fp16": 2e-2, "bf16": 2e-1, "int8": 5e-1}
_GRAIN = np.uint32(2654435761)  # Knuth's multiplier: neighbours get unrelated high bits


def parity_view(shape: Sequence[int]) -> NDArray[np.uint8]:
    """Return a view of that shape, (T, H, W, 3) or (H, W, 3): a slope of colour that moves, with some grain.

    By whole numbers alone, so that it is the same on every machine. Quantised networks were calibrated on pictures, and
    this is more like one than noise would be.
    """
    frames, rows, columns, channels = np.ogrid[tuple(map(slice, (1, *shape)[-4:]))]
    height, width = shape[-3:-1]
    grain = np.arange(np.prod(shape), dtype=np.uint32).reshape((1, *shape)[-4:]) * _GRAIN >> np.uint32(27)
    slope = 40 + 120 * columns // width + 60 * rows // height + 10 * channels + 3 * (frames % 8)
    view: NDArray[np.uint8] = np.minimum(slope + grain, 255).astype(np.uint8).reshape(shape)
    return view


def class_logits(logits: NDArray[np.float32]) -> NDArray[np.float64]:
    """Return one number a class for logits (classes, ...): of segmentation the mean over the picture."""
    return np.asarray(logits.reshape(len(logits), -1).mean(axis=1, dtype=np.float64))


def parity_error(logits: NDArray[np.float32], expected: Sequence[float]) -> float:
    """Return how far logits (classes, ...) of the parity view are from torch's, as a share of torch's spread."""
    wanted = np.asarray(expected)
    return float(np.linalg.norm(class_logits(logits) - wanted) / np.linalg.norm(wanted - wanted.mean()))

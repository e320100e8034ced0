"""Combine the views of a request and name the best classes."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from service.errors import InternalError

Combine = Literal["mean_logits", "mean_softmax", "max_sigmoid"]


@dataclass(frozen=True)
class Prediction:
    """One class with its score, 0 to 1."""

    index: int
    label: str
    score: float


def softmax(logits: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return the softmax over the last axis."""
    exponentials = np.exp(logits - logits.max(axis=-1, keepdims=True))
    return np.asarray(exponentials / exponentials.sum(axis=-1, keepdims=True))


def sigmoid(logits: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return the logistic function, without overflow for large negative values."""
    return np.asarray(np.exp(-np.logaddexp(0, -logits)))


def combine_views(logits: NDArray[np.float32], combine: Combine, multi_label: bool) -> NDArray[np.float32]:
    """Return one score a class, 0 to 1, from the logits (views, classes) of all views of a request.

    The papers that sum logits rank by the sum; the mean ranks the same, and its softmax does not grow sharper with the
    number of views. "max_sigmoid" is PySlowFast's rule for multi-label data.

    Raises:
        InternalError: The scores are no numbers, since the logits are not: by broken weights, or overflow of float16.
    """
    # The error says more than numpy's warning.
    with np.errstate(invalid="ignore"):
        scores = _scores(logits, combine, multi_label)
    if not np.isfinite(scores).all():
        wrong = np.count_nonzero(~np.isfinite(logits))
        raise InternalError(f"the network's output is not finite: {wrong} of {logits.size} logits are NaN or infinite")
    return scores


def _scores(logits: NDArray[np.float32], combine: Combine, multi_label: bool) -> NDArray[np.float32]:
    if combine == "max_sigmoid":
        return np.asarray(sigmoid(logits).max(axis=0))
    if combine == "mean_softmax":
        return np.asarray((sigmoid(logits) if multi_label else softmax(logits)).mean(axis=0))
    mean = logits.mean(axis=0)
    return sigmoid(mean) if multi_label else softmax(mean)


def top_k(scores: NDArray[np.float32], labels: tuple[str, ...], k: int) -> list[Prediction]:
    """Return the k best classes, best first; equal scores in the order of their index."""
    order = np.argsort(-scores, kind="stable")[:k]
    return [Prediction(int(index), labels[index], float(scores[index])) for index in order]

import math

import numpy as np
import pytest

from service.outputs.classification import combine_views, top_k

LOGITS = np.array([[0.0, math.log(3.0)], [math.log(3.0), 0.0], [0.0, math.log(9.0)]], np.float32)


def test_mean_logits_ranks_as_the_papers_sum_and_scores_as_one_softmax() -> None:
    # Means are log(3)/3 and log(27)/3 = log(3): the scores are in the ratio 3^(1/3) : 3.
    first, second = combine_views(LOGITS, "mean_logits", multi_label=False)
    assert second / first == pytest.approx(3 / 3 ** (1 / 3), rel=1e-5)
    assert first + second == pytest.approx(1)


def test_mean_softmax() -> None:
    # Softmaxes (1/4, 3/4), (3/4, 1/4), (1/10, 9/10).
    scores = combine_views(LOGITS, "mean_softmax", multi_label=False)
    assert scores == pytest.approx([1.1 / 3, 1.9 / 3], rel=1e-5)


def test_max_sigmoid_for_multi_label() -> None:
    # Sigmoid of log(k) is k / (k + 1).
    assert combine_views(LOGITS, "max_sigmoid", multi_label=True) == pytest.approx([3 / 4, 9 / 10], rel=1e-5)


def test_large_logits_do_not_overflow() -> None:
    logits = np.array([[1e4, -1e4, 0.0]], np.float32)
    for combine, multi_label in (("mean_logits", False), ("mean_softmax", False), ("max_sigmoid", True)):
        scores = combine_views(logits, combine, multi_label)  # type: ignore[arg-type]
        assert np.isfinite(scores).all()
        assert (scores[0], scores[1]) == (1, 0)


def test_top_k_is_sorted_and_stable() -> None:
    best = top_k(np.array([0.2, 0.5, 0.2, 0.1], np.float32), ("a", "b", "c", "d"), 3)
    assert [prediction.label for prediction in best] == ["b", "a", "c"]
    assert [prediction.index for prediction in best] == [1, 0, 2]
    assert len(top_k(np.array([1.0], np.float32), ("a",), 5)) == 1

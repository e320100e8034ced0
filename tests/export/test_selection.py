"""Which models a pattern means, of those that are registered but not served."""

import re

import pytest

from export.errors import ExportError
from export.selection import matching_models

POSE = ["uniformer_b_pose_coco", "uniformer_s_pose_coco"]


def test_pattern_of_models_that_are_not_served_says_so() -> None:
    told = "all that '*_pose_*' matches is for pose, which the server does not answer yet: " + ", ".join(POSE)
    with pytest.raises(ExportError, match=f"^{re.escape(told)}$"):
        matching_models(["*_pose_*"])


def test_pattern_passes_over_them_among_others() -> None:
    found = matching_models(["uniformer_s_*"])
    assert "uniformer_s_in1k" in found
    assert not set(POSE) & set(found)


def test_name_of_one_is_taken_and_refused_when_its_turn_comes() -> None:
    assert matching_models(POSE) == POSE

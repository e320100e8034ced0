"""Every network reproduces the outputs of its authors' code (tests/golden/README.md)."""

from pathlib import Path

import pytest

from tests.models.golden_check import WRAPPERS, check_golden

# (registered name, golden file)
UNIFORMER = [
    ("uniformer_s_in1k", "uniformer/image_small"),
    ("uniformer_b_in1k", "uniformer/image_base"),
    ("uniformer_b_ls_in1k", "uniformer/image_base_ls"),
    ("uniformer_s_plus_in1k", "uniformer/image_small_plus"),
    ("uniformer_s_tl_in1k", "uniformer/image_small_tl_224"),
    ("uniformer_b_tl_384_in1k", "uniformer/image_base_tl_384"),
    ("uniformer_s_16x4_k400", "uniformer/video_small_16x4_k400"),
    ("uniformer_s_16_ssv2", "uniformer/video_small_16_ssv2"),
    ("uniformer_b_16x4_k400", "uniformer/video_base_16x4_k400"),
    ("uniformer_b_32x4_k400", "uniformer/video_base_32x4_k400"),
]

GOLDENS = [*UNIFORMER]


@pytest.mark.parametrize(("name", "path"), GOLDENS, ids=[path for _, path in GOLDENS])
def test_network_reproduces_the_authors_outputs(name: str, path: str, tmp_path: Path) -> None:
    wrapper = WRAPPERS[GOLDENS.index((name, path)) % len(WRAPPERS)]
    check_golden(name, path, tmp_path, wrapper)

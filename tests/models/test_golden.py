"""Every network reproduces the outputs of its authors' code (tests/golden/README.md)."""

from pathlib import Path
from typing import Any

import pytest

from tests.models.golden_check import TOLERANCE, WRAPPERS, check_golden


def case(name: str, path: str, *, slow: bool = False, tolerance: float = TOLERANCE, **overrides: Any) -> Any:
    """Return the parameters of one comparison: registered name, golden file, overrides for `create_model`."""
    marks = [pytest.mark.slow] if slow else []
    return pytest.param(name, path, tolerance, overrides, id=path, marks=marks)


UNIFORMER = [
    case("uniformer_s_in1k", "uniformer/image_small"),
    case("uniformer_b_in1k", "uniformer/image_base"),
    case("uniformer_b_ls_in1k", "uniformer/image_base_ls"),
    case("uniformer_s_plus_in1k", "uniformer/image_small_plus"),
    case("uniformer_s_tl_in1k", "uniformer/image_small_tl_224"),
    case("uniformer_b_tl_384_in1k", "uniformer/image_base_tl_384"),
    case("uniformer_s_16x4_k400", "uniformer/video_small_16x4_k400"),
    case("uniformer_s_16_ssv2", "uniformer/video_small_16_ssv2"),
    case("uniformer_b_16x4_k400", "uniformer/video_base_16x4_k400"),
    case("uniformer_b_32x4_k400", "uniformer/video_base_32x4_k400"),
]

UNIFORMER_LIGHT = [
    case("uniformer_xxs_128_in1k", "uniformer/image_xxs_128"),
    case("uniformer_xxs_224_in1k", "uniformer/image_xxs_224"),
    case("uniformer_xs_192_in1k", "uniformer/image_xs_192"),
    case("uniformer_xxs_8x128_k400", "uniformer/video_xxs_8x128_ls_k400"),
    case("uniformer_xxs_16x128_k400", "uniformer/video_xxs_16x128_k400"),
    case("uniformer_xxs_16x160_k400", "uniformer/video_xxs_16x160_k400"),
    case("uniformer_xxs_32x160_k400", "uniformer/video_xxs_32x160_k400"),
]

MVIT = [
    case("mvit_b16_in1k", "mvit/image_b_16_conv"),
    case("mvit_b16_max_in1k", "mvit/image_b_16_max"),
    case("mvit_s_16x4_k400", "mvit/s_16x4"),
    case("mvit_b_16x4_k400", "mvit/b_16x4_conv"),
    case("mvit_b_16x4_release_k400", "mvit/b_16x4_conv_release", slow=True),
    case("mvit_b_16x4_max_k400", "mvit/b_16x4_max", slow=True),
    case("mvit_b_32x3_k400", "mvit/b_32x3_conv", slow=True),
]

MORPHMLP = [
    case("morphmlp_s_16x4_k400", "morphmlp/s_16x4_k400", slow=True),
    case("morphmlp_s_16_ssv2", "morphmlp/s_16_ssv2"),
    case("morphmlp_b_16x4_k400", "morphmlp/b_16x4_k400", slow=True),
    case("morphmlp_s_32x4_k400", "morphmlp/s_32x4_k400"),
]

SMLPNET = [
    case("smlpnet_t_star_in1k", "smlpnet/t_star"),
    case("smlpnet_t_in1k", "smlpnet/t"),
    case("smlpnet_s_in1k", "smlpnet/s"),
]

CYCLEMLP = [
    case("cyclemlp_b1_in1k", "mlp3d/cyclemlp_b1", tolerance=2e-5),
    case("cyclemlp_b2_in1k", "mlp3d/cyclemlp_b2", tolerance=2e-5),
]

MLP3D = [
    case(
        "mlp3d_xs_k400",
        f"mlp3d/mlp3d_xs_{kind}_s4_t{frames}",
        tolerance=2e-5,
        gtm=[(kind, 4)] * 10,
        num_frames=frames,
        input_size=64,
    )
    for kind in ("short_range", "long_range", "shift_window", "shift_token")
    for frames in (16, 32)
]

SEGMENTATION = [
    case("uniformer_s_fpn_ade20k", "uniformer/seg_fpn_small_global"),
    case("uniformer_s_h32_fpn_ade20k", "uniformer/seg_fpn_small_h32"),
    case("uniformer_s_w32_fpn_ade20k", "uniformer/seg_fpn_small_w32"),
    case("uniformer_xxs_fpn_ade20k", "uniformer/seg_fpn_xxs"),
    case("uniformer_s_upernet_ade20k", "uniformer/seg_upernet_small_global"),
]

POSE = [case("uniformer_s_pose_coco", "uniformer/pose_small_256x192")]

GOLDENS = [*UNIFORMER, *UNIFORMER_LIGHT, *MVIT, *MORPHMLP, *SMLPNET, *CYCLEMLP, *MLP3D, *SEGMENTATION, *POSE]


@pytest.mark.parametrize(("name", "path", "tolerance", "overrides"), GOLDENS)
def test_network_reproduces_the_authors_outputs(
    name: str, path: str, tolerance: float, overrides: dict[str, Any], tmp_path: Path
) -> None:
    wrapper = WRAPPERS[[golden.id for golden in GOLDENS].index(path) % len(WRAPPERS)]
    check_golden(name, path, tmp_path, wrapper, tolerance, **overrides)

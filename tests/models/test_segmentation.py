"""Semantic segmentation: windows, grids of averages, sizes of every variant, checkpoints with an auxiliary head."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from models import CheckpointError, create_model, list_models, load_checkpoint, model_entry
from models.figures import count_gmacs, measure
from models.registry import Network
from models.segmentation import GridPool
from models.uniformer import GlobalBlock, WindowBlock
from tests.golden.fill import golden_input
from tests.models.golden_check import read_golden

AUXILIARY_HEAD = 776_342


# Parameters and multiply-adds that the reference code has at these sizes (notes, section 6); where those are silent,
# the rounded figures of the paper's tables 8 and 9.
@pytest.mark.parametrize(
    ("name", "width", "parameters", "gmacs", "tolerance"),
    [
        ("uniformer_s_fpn_ade20k", 2048, 25_299_926, 246.524, 1e-5),
        ("uniformer_s_h32_fpn_ade20k", 2048, 25_299_926, 198.206, 1e-5),
        ("uniformer_s_w32_fpn_ade20k", 2048, 25_299_926, 182.099, 1e-5),
        ("uniformer_b_fpn_ade20k", 2048, 53_531_222, 471, 0.01),
        ("uniformer_b_h32_fpn_ade20k", 2048, 53_531_222, 349.0, 1e-3),
        ("uniformer_xs_fpn_ade20k", 512, 19_733_398, 32.77, 1e-3),
        ("uniformer_s_upernet_ade20k", 2048, 51_521_132 - AUXILIARY_HEAD, 1003.173, 1e-5),
        ("uniformer_s_h32_upernet_ade20k", 2048, 51_521_132 - AUXILIARY_HEAD, 955, 0.01),
        ("uniformer_b_upernet_ade20k", 2048, 79_752_428 - AUXILIARY_HEAD, 1227, 0.01),
        ("uniformer_b_h32_upernet_ade20k", 2048, 79_752_428 - AUXILIARY_HEAD, 1105.6, 1e-3),
    ],
)
def test_size_at_the_resolution_of_the_paper(
    name: str, width: int, parameters: int, gmacs: float, tolerance: float
) -> None:
    with torch.device("meta"):
        network = create_model(name)
        assert sum(parameter.numel() for parameter in network.parameters()) == parameters
        assert count_gmacs(network, (3, 512, width)) == pytest.approx(gmacs, rel=tolerance)


# The usual head on that paper's backbones; the paper itself counts fewer parameters (its table 6).
@pytest.mark.parametrize(("size", "millions"), [("t", 27.1), ("s", 44.2), ("b", 61.6)])
def test_morphmlp_has_the_parameters_of_backbone_and_head(size: str, millions: float) -> None:
    with torch.device("meta"):
        network = create_model(f"morphmlp_{size}_fpn_ade20k")
    assert sum(parameter.numel() for parameter in network.parameters()) / 1e6 == pytest.approx(millions, abs=0.05)


def test_every_published_name_is_there() -> None:
    names = {f"morphmlp_{size}_fpn_ade20k" for size in "tsb"}
    names |= {f"uniformer_{size}_fpn_ade20k" for size in ("s", "b", "s_h32", "b_h32", "s_w32", "xxs", "xs")}
    names |= {f"uniformer_{size}_upernet_ade20k" for size in ("s", "b", "s_h32", "b_h32")}
    assert set(list_models(task="image_segmentation")) == names | {"uniformer_tiny_shapes_fpn"}


def test_the_demo_network_is_small() -> None:
    figures = measure("uniformer_tiny_shapes_fpn")
    # 12 MB in fp32 is 3 M; the graph takes a little.
    assert figures.params < 2.5e6
    assert figures.gmacs < 1


@pytest.mark.parametrize(
    ("name", "global_blocks"),
    [
        ("uniformer_s_fpn_ade20k", list(range(8))),
        ("uniformer_s_w32_fpn_ade20k", []),
        ("uniformer_s_h32_fpn_ade20k", [3, 7]),
        ("uniformer_b_h32_upernet_ade20k", [3, 7, 11, 15, 19]),
    ],
)
def test_every_fourth_block_of_a_hybrid_stage_is_global(name: str, global_blocks: list[int]) -> None:
    with torch.device("meta"):
        backbone = create_model(name).backbone
    assert [i for i, block in enumerate(backbone.blocks3) if not isinstance(block, WindowBlock)] == global_blocks
    assert all(block.window_size == 32 for block in backbone.modules() if isinstance(block, WindowBlock))
    assert not any(isinstance(block, WindowBlock) for block in backbone.blocks4)


def window_by_window(block: WindowBlock, tokens: Tensor, height: int, width: int) -> Tensor:
    """Attention of one image's tokens (H * W, C), each window by itself, zeros where it hangs over the edge."""
    side, dim = block.window_size, tokens.shape[1]
    out = torch.empty(height, width, dim)
    for top in range(0, height, side):
        for left in range(0, width, side):
            window = torch.zeros(side, side, dim)
            inside = tokens.reshape(height, width, dim)[top : top + side, left : left + side]
            window[: inside.shape[0], : inside.shape[1]] = inside
            answer = block.attn(window.reshape(1, side * side, dim)).reshape(side, side, dim)
            out[top : top + side, left : left + side] = answer[: inside.shape[0], : inside.shape[1]]
    return out.reshape(height * width, dim)


@pytest.mark.parametrize("size", [(4, 8), (5, 7), (9, 4), (2, 3)])
def test_windows_are_filled_with_zeros_that_take_part(size: tuple[int, int]) -> None:
    block = WindowBlock(24, head_dim=8, mlp_ratio=2, layer_scale=False, window_size=4)
    tokens = torch.randn(2, size[0] * size[1], 24)
    with torch.inference_mode():
        actual = block.attend(tokens, torch.Size(size))
        for image in range(2):
            torch.testing.assert_close(actual[image], window_by_window(block, tokens[image], *size))


def test_a_window_as_large_as_the_map_is_no_window() -> None:
    windowed = WindowBlock(24, head_dim=8, mlp_ratio=2, layer_scale=False, window_size=6)
    plain = GlobalBlock(24, head_dim=8, mlp_ratio=2, layer_scale=False, is_video=False)
    plain.load_state_dict(windowed.state_dict())
    x = torch.randn(2, 24, 6, 6)
    with torch.inference_mode():
        torch.testing.assert_close(windowed(x), plain(x))


def test_video_has_no_windows() -> None:
    with pytest.raises(ValueError, match=r"windows exist for image models only"):
        create_model("uniformer_s_16x4_k400", stage3="hybrid")


@pytest.mark.parametrize("size", [(12, 18), (16, 16), (7, 11), (4, 1)])
@pytest.mark.parametrize("cells", [1, 2, 3, 6])
def test_grid_pool_is_adaptive_average_pooling(size: tuple[int, int], cells: int) -> None:
    x = torch.randn(2, 3, *size)
    torch.testing.assert_close(GridPool(cells)(x), nn.functional.adaptive_avg_pool2d(x, cells))


def shallow(name: str) -> Network:
    """Return model `name` with two blocks a stage at most, and small windows."""
    backbone = replace(model_entry(name).config.backbone, depths=(1, 1, 2, 1))
    if hasattr(backbone, "window_size"):
        backbone = replace(backbone, window_size=4)
    return create_model(name, backbone=backbone)


@pytest.mark.parametrize(
    "name",
    [
        "uniformer_s_fpn_ade20k",
        "uniformer_s_h32_fpn_ade20k",
        "uniformer_s_h32_upernet_ade20k",
        "uniformer_xxs_fpn_ade20k",
        "morphmlp_t_fpn_ade20k",
    ],
)
def test_any_size_comes_out_as_it_went_in(name: str) -> None:
    network = shallow(name)
    x = torch.from_numpy(golden_input((2, 3, 203, 118)))
    with torch.inference_mode():
        together, alone = network(x), network(x[1:])
    assert together.shape == (2, 150, 203, 118)
    torch.testing.assert_close(together[1:], alone, rtol=1e-4, atol=1e-4)


def save_reference_layout(golden: str, path: Path) -> None:
    """Write a file with the keys and shapes of a golden file's checkpoint, and no content worth the disk space."""
    spec = read_golden(golden)["state_dict"]
    torch.save({"meta": {}, "state_dict": {key: torch.zeros(()).expand(shape) for key, shape, _ in spec}}, path)


def test_a_file_of_a_sibling_is_refused_and_all_that_fit_are_named(tmp_path: Path) -> None:
    save_reference_layout("uniformer/seg_upernet_small_global", tmp_path / "upernet.pth")
    # Windows leave no trace in a file: one file serves both networks.
    fitting = "it would fit uniformer_s_h32_upernet_ade20k, uniformer_s_upernet_ade20k\n"
    with torch.device("meta"):
        network = create_model("uniformer_b_upernet_ade20k")
    with pytest.raises(CheckpointError, match=fitting) as refusal:
        load_checkpoint(network, tmp_path / "upernet.pth")
    assert "auxiliary_head" not in str(refusal.value)


def test_other_extra_entries_than_the_auxiliary_head_are_refused(tmp_path: Path) -> None:
    spec = read_golden("uniformer/seg_fpn_small_global")["state_dict"]
    state = {key: torch.zeros(()).expand(shape) for key, shape, _ in spec} | {"auxiliary_neck.bias": torch.zeros(1)}
    torch.save({"state_dict": state}, tmp_path / "extra.pth")
    with pytest.raises(CheckpointError, match=r"unexpected: auxiliary_neck\.bias"):
        load_checkpoint(create_model("uniformer_s_fpn_ade20k"), tmp_path / "extra.pth")

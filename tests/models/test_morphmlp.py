from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from models import CheckpointError, create_model, list_models, load_checkpoint
from models.figures import count_gmacs
from models.morphmlp import MorphMLPBackbone, TemporalMorphFC, mix_columns, mix_plane, randomise_time
from tests.golden.fill import fill, golden_input
from tests.models.golden_check import read_golden, relative_error


# Figures of reference networks that have no golden file; the paper's table 2 says 23 M / 3.9 G, 38 / 7.0, 58 / 10.2 and
# 76 / 12.5 for the images, its tables 3 and 4 say 788 and 591 G for the views of B at 32 frames.
@pytest.mark.parametrize(
    ("name", "parameters", "gmacs"),
    [
        ("morphmlp_t_in1k", 23_393_908, 3.958),
        ("morphmlp_s_in1k", 40_548_122, 6.945),
        ("morphmlp_b_in1k", 57_979_494, 10.204),
        ("morphmlp_l_in1k", 76_185_612, 12.438),
        ("morphmlp_b_32x4_k400", 68_490_822, 195.73),
        ("morphmlp_b_32_ssv2", 68_490_822 - 177_410, 195.73),
    ],
)
def test_size_of_a_variant_without_a_golden_file(name: str, parameters: int, gmacs: float) -> None:
    with torch.device("meta"):
        network = create_model(name)
        shape = (3, 224, 224) if network.config.num_frames is None else (3, 32, 224, 224)
        assert sum(parameter.numel() for parameter in network.parameters()) == parameters
        assert count_gmacs(network, shape) == pytest.approx(gmacs, rel=1e-3)


def test_every_published_name_is_there() -> None:
    sizes = [f"{size}_{frames}" for size in "sb" for frames in (16, 32)]
    names = {f"morphmlp_{size}_in1k" for size in "tsbl"} | {f"morphmlp_{size}x4_k400" for size in sizes}
    names |= {f"morphmlp_{size}_{dataset}" for size in sizes for dataset in ("ssv1", "ssv2")}
    assert names <= set(list_models("morphmlp"))


def test_a_clip_that_stands_still_is_an_image() -> None:
    depths = (1, 1, 2, 1)
    image = create_model("morphmlp_s_in1k", depths=depths)
    state = image.state_dict()
    state |= {key: torch.from_numpy(fill(key, tuple(value.shape))) for key, value in state.items() if value.ndim}
    image.load_state_dict(state)
    video = create_model("morphmlp_s_16x4_k400", depths=depths, num_classes=1000)
    for key, own in video.state_dict().items():
        if key not in state:
            state[key] = torch.zeros_like(own) if ".t_fc.proj." in key else own
        elif own.ndim == 5:
            state[key] = state[key].unsqueeze(2)  # (O, I, 3, 3) -> (O, I, 1, 3, 3)
    # The stem looks at three frames: all but the middle one count nothing.
    state["patch_embed1.proj1.weight"] = nn.functional.pad(state["patch_embed1.proj1.weight"], (0, 0, 0, 0, 1, 1))
    video.load_state_dict(state)

    x = torch.from_numpy(golden_input((1, 3, 224, 224)))
    with torch.inference_mode():
        expected, actual = image(x), video(x.unsqueeze(2).expand(-1, -1, 16, -1, -1))
    assert relative_error(actual.numpy(), expected.numpy()) < 1e-5


def chunk_by_chunk(fc: nn.Linear, tokens: Tensor, length: int, interleaved: bool) -> Tensor:
    """The rule for sizes that the chunk length does not divide, one chunk and one channel group at a time."""
    count, dim = tokens.shape
    chunks = (count + length - 1) // length
    padded = torch.cat([tokens, torch.zeros(chunks * length - count, dim)])
    out = torch.empty_like(padded)
    width = dim // length
    for chunk in range(chunks):
        members = [chunk + k * chunks if interleaved else chunk * length + k for k in range(length)]
        for group in range(length):
            channels = slice(group * width, (group + 1) * width)
            out[members, channels] = fc(padded[members, channels].flatten()).reshape(length, width)
    return out[:count]


@pytest.mark.parametrize("size", [(5, 6), (14, 3), (3, 14), (2, 2)])
def test_pathways_follow_the_padding_rule(size: tuple[int, int]) -> None:
    fc, length = nn.Linear(28, 28), 14
    x = torch.randn(2, 3, *size, 28)
    with torch.inference_mode():
        rows, columns = mix_plane(fc, x, length), mix_columns(fc, x, length)
        interleaved = mix_plane(fc, x, length, interleaved=True)
        for frame in ((0, 0), (1, 2)):
            tokens, turned = x[frame].flatten(0, 1), x[frame].transpose(0, 1).flatten(0, 1)
            torch.testing.assert_close(rows[frame].flatten(0, 1), chunk_by_chunk(fc, tokens, length, False))
            torch.testing.assert_close(interleaved[frame].flatten(0, 1), chunk_by_chunk(fc, tokens, length, True))
            expected = chunk_by_chunk(fc, turned, length, False)
            torch.testing.assert_close(columns[frame].transpose(0, 1).flatten(0, 1), expected)


def test_backbone_takes_sizes_that_no_chunk_length_divides() -> None:
    config = create_model("morphmlp_t_in1k", depths=(1, 1, 1, 1)).config
    backbone = MorphMLPBackbone(config).eval()
    x = torch.from_numpy(golden_input((2, 3, 256, 200)))
    with torch.inference_mode():
        maps = backbone.forward_stages(x)
        alone = backbone.forward_stages(x[1:])
    shapes = [(2, 84, 64, 50), (2, 168, 32, 25), (2, 336, 16, 13), (2, 588, 8, 7)]
    assert [tuple(stage.shape) for stage in maps] == shapes
    for stage, single in zip(maps, alone, strict=True):
        torch.testing.assert_close(stage[1:], single, rtol=1e-4, atol=1e-5)


def test_a_fresh_temporal_branch_adds_nothing() -> None:
    for module in create_model("morphmlp_s_32x4_k400", depths=(1, 1, 1, 1)).modules():
        if isinstance(module, TemporalMorphFC):
            plane = torch.randn(1, 16, 2, 2, module.proj.in_features)
            assert not module(plane).any()


def test_a_16_frame_file_is_refused_by_the_32_frame_network(tmp_path: Path) -> None:
    spec = read_golden("morphmlp/s_16x4_k400")["state_dict"]
    torch.save({"model_state": {key: torch.zeros(()).expand(shape) for key, shape, _ in spec}}, tmp_path / "s16.pth")
    with pytest.raises(CheckpointError, match=r"it would fit .*morphmlp_s_16x4_k400") as refusal:
        load_checkpoint(create_model("morphmlp_s_32x4_k400"), tmp_path / "s16.pth")
    verdict, *lines, rest = str(refusal.value).splitlines()
    # Only stage 3 has other shapes: 392 channels fall into 8 groups for 8 time steps and into 14 for 16.
    assert f"({2 * 9} wrong shape of " in verdict
    assert all("blocks3." in line and "t_fc.mlp_t" in line for line in lines)
    assert rest == f"  wrong shape: {2 * 9 - 5} more"


def test_settings_that_no_network_has_are_refused() -> None:
    with pytest.raises(ValueError, match=r"num_frames=8.*16 and 32"):
        create_model("morphmlp_s_16x4_k400", num_frames=8)
    with pytest.raises(ValueError, match="100 is none of 14"):
        create_model("morphmlp_t_in1k", embed_dims=(100, 168, 336, 588))
    network = create_model("morphmlp_s_16x4_k400", depths=(1, 1, 1, 1))
    with pytest.raises(ValueError, match="sample 16 frames"):
        network(torch.zeros(1, 3, 8, 224, 224))


@pytest.mark.parametrize("at_random", [False, True])
def test_channels_of_temporal_layers_learn_apart_only_from_a_random_start(at_random: bool) -> None:
    torch.manual_seed(0)
    network = create_model("morphmlp_tiny_shapes")
    if at_random:
        randomise_time(network)
    network(torch.randn(1, 3, 16, 64, 64)).square().sum().backward()
    layer = network.get_parameter("blocks3.0.t_fc.mlp_t.weight")
    assert layer.grad is not None
    gradients = layer.grad.unflatten(0, (8, -1))  # (time, channels of a group, inputs)
    alike = bool(torch.allclose(gradients[:, :1].expand_as(gradients), gradients, rtol=1e-4, atol=1e-7))
    assert alike != at_random

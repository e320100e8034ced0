"""MViT beyond its golden files: published sizes, pools, other namings of the weights, other clips, refusals."""

import logging
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.nn import functional
from torch.utils.flop_counter import FlopCounterMode

from models import CheckpointError, Network, create_model, list_models, load_checkpoint, model_entry
from models.mvit import ConvPool, MaxPool, Pooling, pool_tokens
from tests.golden.fill import golden_input
from tests.models.golden_check import TOLERANCE, golden_state_dict, read_golden, relative_error

# Parameters and 10^9 multiply-adds, measured with the authors' code at the commit that models/mvit.py names.
SIZES = {
    "mvit_b_16x4_k400": (36_610_672, 70.60),
    "mvit_b_16x4_release_k400": (36_599_536, 70.52),
    "mvit_b_16x4_max_k400": (36_513_232, 70.33),
    "mvit_b_32x3_k400": (36_611_440, 169.96),
    "mvit_b_64x3_k400": (36_612_976, 455.06),
    "mvit_b24_32x3_k600": (53_269_080, 235.78),
    "mvit_s_16x4_k400": (26_038_032, 29.95),
    "mvit_b_16x4_ssv2": (36_436_878, 70.60),
    "mvit_b24_32x3_ssv2": (53_326_680 - (600 - 174) * (768 + 1), 236.24),  # the 600-class figure, with a smaller head
    "mvit_b_16x4_charades": (36_423_805, 70.60),
    "mvit_b16_in1k": (36_982_600, 7.81),
    "mvit_b16_max_in1k": (36_945_640, 7.78),
    "mvit_b24_max_in1k": (53_462_536, 10.90),
    "mvit_b24_wide_320_in1k": (72_961_832, 32.72),
}
# Not measured so: the max-pooled network plus what convolution adds, counted by hand. Each pool is a 1x3x3 kernel and
# a LayerNorm on 96 channels; every block pools keys and values, the three that open a stage also queries.
SIZES["mvit_b24_in1k"] = (53_462_536 + (2 * 24 + 3) * 96 * (9 + 2), 10.90 + 0.037)

# A network small enough to be built and saved in no time.
SMALL = {"depths": (1, 2), "embed_dims": (32, 64), "head_dim": 32, "input_size": 32}


def save(state: dict[str, Tensor], folder: Path) -> Path:
    path = folder / "checkpoint.pyth"
    torch.save({"epoch": 200, "model_state": state, "cfg": "NUM_GPUS: 1"}, path)
    return path


def pytorchvideo_state(network: Network) -> dict[str, Tensor]:
    """Return the network's weights under the names and in the pieces of PyTorchVideo.

    Read from facebookresearch/pytorchvideo@f3142bb05cdb56af0704ab6f0adfb0c7bbafe4a0.
    """
    theirs: dict[str, Tensor] = {}
    for key, value in network.state_dict().items():
        if ".qkv." in key:
            for part, rows in zip("qkv", value.chunk(3), strict=True):
                theirs[key.replace("qkv", part)] = rows
        elif key.startswith(("cls_token", "pos_embed")):
            theirs[f"cls_positional_encoding.{key}"] = value
        elif key.startswith("norm."):
            theirs[f"norm_embed.{key.removeprefix('norm.')}"] = value
        else:
            theirs[
                key.replace("patch_embed.proj", "patch_embed.patch_model").replace("head.projection", "head.proj")
            ] = value
        if ".attn.pool_q." in key:
            theirs[key.replace("pool_q.", "_attention_pool_q.pool.")] = value
    return theirs


# The demo's own network is no variant of the paper.
VARIANTS = [name for name in list_models(family="mvit") if name != "mvit_tiny_shapes"]


def test_sizes_cover_every_variant() -> None:
    assert sorted(SIZES) == VARIANTS


@pytest.mark.parametrize("name", sorted(SIZES))
def test_parameters_and_multiply_adds_are_the_reference_ones(name: str) -> None:
    parameters, gmacs = SIZES[name]
    with torch.device("meta"):
        network = create_model(name)
        config = network.config
        frames = [config.num_frames] if config.is_video else []
        x = torch.zeros(1, 3, *frames, config.input_size, config.input_size)
    with FlopCounterMode(display=False) as counter:
        logits = network(x)
    assert logits.shape == (1, config.num_classes)
    assert sum(parameter.numel() for parameter in network.parameters()) == parameters
    assert counter.get_total_flops() / 2e9 == pytest.approx(gmacs, rel=1e-3)


def test_every_weights_entry_describes_its_network() -> None:
    for name in VARIANTS:
        entry = model_entry(name)
        assert entry.weights.sampling.num_frames == (entry.config.num_frames or 1), name
        assert entry.weights.preprocessing.crop == (entry.config.input_size,) * 2, name
        charades = name.endswith("charades")
        assert entry.weights.multi_label == charades, name
        assert entry.weights.views.combine == ("max_sigmoid" if charades else "mean_softmax"), name


@pytest.mark.parametrize("kernel", [(1, 9, 9), (1, 3, 3), (3, 3, 3)])
@pytest.mark.parametrize("stride", [1, 2, 8])
def test_pooled_tokens_equal_three_dimensional_pools_with_heads_in_the_batch(kernel: Any, stride: int) -> None:
    torch.manual_seed(0)
    batch, heads, head_dim, grid = 2, 3, 4, (5, 14, 11)
    maps = torch.randn(batch, heads * head_dim, *grid)
    folded = maps.reshape(batch * heads, head_dim, *grid)  # as slowfast/models/attention.py, attention_pool, does it
    geometry = {"stride": (1, stride, stride), "padding": [size // 2 for size in kernel]}

    tokens = torch.cat([torch.randn(batch, 1, heads * head_dim), maps.flatten(2).transpose(1, 2)], dim=1)

    def pooled(pool: ConvPool | MaxPool, expected: Tensor) -> Tensor:
        out = pool_tokens(tokens, grid, pool)
        assert torch.equal(out[:, :1], tokens[:, :1])  # the class token passes by
        return out[:, 1:].transpose(1, 2).reshape(expected.shape)

    conv = ConvPool(head_dim, Pooling("conv", kernel, stride))
    expected = functional.conv3d(folded, conv.weight, groups=head_dim, **geometry)
    torch.testing.assert_close(pooled(conv, expected), expected)

    expected = functional.max_pool3d(folded, kernel, **geometry)
    assert torch.equal(pooled(MaxPool(Pooling("max", kernel, stride)), expected), expected)


@pytest.mark.parametrize("name", ["mvit_b_16x4_k400", "mvit_b_16x4_max_k400", "mvit_b24_32x3_k600", "mvit_b16_in1k"])
def test_batch_of_two_equals_two_singles(name: str) -> None:
    torch.manual_seed(0)
    frames = {} if name.endswith("in1k") else {"num_frames": 4}
    network = create_model(name, **SMALL, **frames)
    x = torch.randn(2, 3, *frames.values(), 32, 32)
    with torch.inference_mode():
        torch.testing.assert_close(network(x), torch.cat([network(x[:1]), network(x[1:])]), rtol=1e-5, atol=1e-6)


def test_pytorchvideo_names_load_into_a_video_network(tmp_path: Path) -> None:
    source = create_model("mvit_b_16x4_k400", num_frames=4, **SMALL)
    network = create_model("mvit_b_16x4_k400", num_frames=4, **SMALL)
    load_checkpoint(network, save(pytorchvideo_state(source), tmp_path))
    for key, value in network.state_dict().items():
        assert torch.equal(value, source.state_dict()[key]), key


def test_pytorchvideo_image_weights_give_the_golden_logits(tmp_path: Path) -> None:
    golden = read_golden("mvit/image_b_16_conv")
    network = create_model("mvit_b16_in1k")
    network.load_state_dict(golden_state_dict(golden))
    state = pytorchvideo_state(network)
    joint = state.pop("cls_positional_encoding.pos_embed")
    temporal = torch.linspace(-1, 1, joint.shape[2]).reshape(1, 1, -1)
    state["cls_positional_encoding.pos_embed_class"] = joint[:, :1]
    state["cls_positional_encoding.pos_embed_spatial"] = joint[:, 1:] - temporal
    state["cls_positional_encoding.pos_embed_temporal"] = temporal

    network = create_model("mvit_b16_in1k")
    load_checkpoint(network, save(state, tmp_path))
    with torch.inference_mode():
        logits = network(torch.from_numpy(golden_input(tuple(golden["input_shape"]))))
    assert relative_error(logits.numpy().ravel(), np.asarray(golden["logits"], dtype=np.float32)) < TOLERANCE


def test_temporal_position_is_interpolated_as_in_the_notes(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    state = create_model("mvit_b_16x4_k400", num_frames=8, **SMALL).state_dict()
    state["pos_embed_temporal"] = torch.arange(4.0).reshape(1, 4, 1).expand(1, 4, 32).clone()
    network = create_model("mvit_b_16x4_k400", num_frames=16, **SMALL)
    with caplog.at_level(logging.WARNING):
        load_checkpoint(network, save(state, tmp_path))
    expected = torch.tensor([0, 0.25, 0.75, 1.25, 1.75, 2.25, 2.75, 3])
    torch.testing.assert_close(network.get_parameter("pos_embed_temporal")[0, :, 7].detach(), expected)
    assert "pos_embed_temporal" in caplog.text
    assert "4 entries" in caplog.text


def test_spatial_position_is_interpolated_bicubically(tmp_path: Path) -> None:
    state = create_model("mvit_b_16x4_k400", num_frames=4, **SMALL).state_dict()
    network = create_model("mvit_b_16x4_k400", num_frames=4, **(SMALL | {"input_size": 64}))
    load_checkpoint(network, save(state, tmp_path))
    # Cubic convolution with a = -0.75: cell (7, 7) of the 16 x 16 grid lies at 3.25 of the 8 x 8 one on both axes.
    a, t = -0.75, 0.25
    near = [(a + 2) * d**3 - (a + 3) * d**2 + 1 for d in (t, 1 - t)]
    far = [a * d**3 - 5 * a * d**2 + 8 * a * d - 4 * a for d in (1 + t, 2 - t)]
    taps = torch.tensor([far[0], near[0], near[1], far[1]])
    cells = state["pos_embed_spatial"].reshape(8, 8, 32)[2:6, 2:6]
    expected = torch.einsum("i,j,ijc->c", taps, taps, cells)
    torch.testing.assert_close(network.get_parameter("pos_embed_spatial")[0, 7 * 16 + 7].detach(), expected)


def test_joint_position_of_another_size_is_refused(tmp_path: Path) -> None:
    state = create_model("mvit_b16_in1k", **SMALL).state_dict()
    network = create_model("mvit_b16_in1k", **(SMALL | {"input_size": 64}))
    with pytest.raises(CheckpointError, match=r"wrong shape: pos_embed is \(1, 65, 32\)"):
        load_checkpoint(network, save(state, tmp_path))


@pytest.mark.parametrize(
    ("golden", "offered_to", "fitting"),
    [
        ("b_16x4_conv_release", "mvit_b_16x4_k400", "mvit_b_16x4_release_k400"),
        ("b_16x4_conv", "mvit_b_16x4_release_k400", "mvit_b_16x4_charades, mvit_b_16x4_k400, mvit_b_16x4_ssv2"),
        ("b_32x3_conv", "mvit_b_16x4_k400", "mvit_b_32x3_k400"),
        ("b_32x3_conv", "mvit_b_16x4_max_k400", "mvit_b_32x3_k400"),
        ("image_b_16_max", "mvit_b16_in1k", "mvit_b16_max_in1k"),
    ],
)
def test_file_of_a_sibling_is_refused_by_name(golden: str, offered_to: str, fitting: str, tmp_path: Path) -> None:
    state = {key: torch.zeros(shape) for key, shape, _ in read_golden(f"mvit/{golden}")["state_dict"]}
    with pytest.raises(CheckpointError) as refusal:
        load_checkpoint(create_model(offered_to), save(state, tmp_path))
    verdict = str(refusal.value).splitlines()[0]
    assert f"does not fit {offered_to} (" in verdict
    assert verdict.endswith(f": it would fit {fitting}")


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ({"num_frames": 15}, "positive even number"),
        ({"num_frames": 0}, "positive even number"),
        ({"input_size": 225}, "positive multiple of 4"),
        ({"patch_padding": 0}, "must give 56 patches a side"),
        ({"depths": (1, 2)}, "one of each a stage"),
        ({"head_dim": 64}, "head_dim=64: .* 96 and 192 and 384 and 768 channels .* divisor"),
        ({"pool_kernel": 2}, "odd kernel"),
    ],
)
def test_overrides_that_build_no_network_are_refused(override: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        create_model("mvit_b_16x4_k400", **override)


def test_input_of_another_size_is_refused() -> None:
    network = create_model("mvit_b_16x4_k400", num_frames=4, **SMALL)
    with pytest.raises(ValueError, match=r"mvit_b_16x4_k400 takes \(batch, 3, 4, 32, 32\), not \(1, 3, 8, 32, 32\)"):
        network(torch.zeros(1, 3, 8, 32, 32))

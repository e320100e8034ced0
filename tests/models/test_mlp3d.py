"""MLP-3D: grouped time mixing, the identities between its types, its start from CycleMLP, its two paths."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from models import CheckpointError, create_model, load_checkpoint, model_entry
from models.figures import count_gmacs
from models.mlp3d import GroupedTimeMixing, assign_blocks, initialize_from_cyclemlp
from models.registry import Network
from tests.golden.fill import golden_input
from tests.models.golden_check import (
    build_golden_network,
    golden_state_dict,
    read_golden,
    relative_error,
    unfilled_value,
)

TOLERANCE = 2e-5
ALL_TYPES = ["short_range", "long_range", "shift_window", "shift_token"]

# Members of each group in the order of their slots, by the paper's Algorithm 1.
GROUPS = {
    ("short_range", 8, 2): "01 23 45 67",
    ("short_range", 8, 4): "0123 4567",
    ("long_range", 8, 2): "04 15 26 37",
    ("long_range", 8, 4): "0246 1357",
    ("shift_window", 8, 2): "70 12 34 56",
    ("shift_window", 8, 4): "6701 2345",
    ("shift_window", 4, 1): "0 1 2 3",
}


def mix(layer: GroupedTimeMixing, x: Tensor) -> Tensor:
    """Run the layer on clips (B, T, C, H, W)."""
    tokens = x.flatten(0, 1).flatten(2).transpose(1, 2)  # (B * T, H * W, C)
    return layer(tokens, x.shape[1]).transpose(1, 2).reshape(x.shape)


@pytest.mark.parametrize(("kind", "steps", "size"), GROUPS)
def test_window_types_mix_within_their_groups(kind: Any, steps: int, size: int) -> None:
    layer = GroupedTimeMixing(5, kind, size).double()
    x = torch.randn(2, steps, 5, 2, 3, dtype=torch.float64)
    expected = torch.zeros_like(x)
    for group in GROUPS[kind, steps, size].split():
        for j, output in enumerate(map(int, group)):
            for i, source in enumerate(map(int, group)):
                weight = layer.weight[j - i + size - 1]  # distance output - input, the smallest one first
                expected[:, output] += torch.einsum("oi,bihw->bohw", weight, x[:, source])
    torch.testing.assert_close(mix(layer, x), expected, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize(("steps", "size"), [(8, 4), (3, 5), (5, 3), (1, 2)])
def test_shift_token_looks_back_round_the_clip(steps: int, size: int) -> None:
    layer = GroupedTimeMixing(5, "shift_token", size).double()
    x = torch.randn(2, steps, 5, 2, 3, dtype=torch.float64)
    expected = torch.zeros_like(x)
    for t in range(steps):
        for i in range(size):
            expected[:, t] += torch.einsum("oi,bihw->bohw", layer.weight[i], x[:, (t - i) % steps])
    torch.testing.assert_close(mix(layer, x), expected, rtol=1e-12, atol=1e-12)


@pytest.fixture(scope="module")
def of_one_type(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Network]:
    """XS networks of one type each, groups of four, eight steps in time."""
    return {
        kind: build_golden_network(
            "mlp3d_xs_k400",
            read_golden(f"mlp3d/mlp3d_xs_{kind}_s4_t32"),
            tmp_path_factory.mktemp("golden"),
            wrapper=None,
            gtm=(kind, 4),
            num_frames=32,
        )
        for kind in ALL_TYPES
    }


def test_types_differ_by_a_reordering_of_the_clip(of_one_type: dict[str, Network]) -> None:
    clip = torch.from_numpy(golden_input((1, 3, 32, 64, 64)))
    tubelets = list(clip.split(4, dim=2))
    rolled = torch.cat(tubelets[-2:] + tubelets[:-2], dim=2)
    interleaved = torch.cat(tubelets[0::2] + tubelets[1::2], dim=2)
    with torch.inference_mode():
        same = [
            (of_one_type["shift_window"](clip), of_one_type["short_range"](rolled)),
            (of_one_type["long_range"](clip), of_one_type["short_range"](interleaved)),
            (of_one_type["shift_token"](clip), of_one_type["shift_token"](rolled)),
        ]
        plain = of_one_type["short_range"](clip)
    for one, other in same:
        assert relative_error(one.numpy(), other.numpy()) < TOLERANCE
    assert relative_error(plain.numpy(), same[0][0].numpy()) > 0.01


def test_clips_of_a_batch_do_not_mix(of_one_type: dict[str, Network]) -> None:
    clips = torch.from_numpy(golden_input((2, 3, 32, 64, 64)))
    for network in of_one_type.values():
        with torch.inference_mode():
            torch.testing.assert_close(
                network(clips), torch.cat([network(clip[None]) for clip in clips]), rtol=1e-5, atol=1e-5
            )


# ---------------------------------------------------------------------------------------------------------------------
# Start from CycleMLP


@pytest.fixture(scope="module")
def image_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A file like the official one of CycleMLP-B1, with the golden's weights."""
    golden = read_golden("mlp3d/cyclemlp_b1")
    state = golden_state_dict(golden)
    image_network = create_model("cyclemlp_b1_in1k")
    for key, shape, dtype in golden["state_dict"]:
        if key.endswith(".offset"):
            state[key] = unfilled_value(image_network, key, tuple(shape), dtype)
    file = tmp_path_factory.mktemp("image") / "CycleMLP_B1.pth"
    torch.save({"model": state}, file)
    return file


@pytest.mark.parametrize("gtm", [*((kind, 4) for kind in ALL_TYPES), ("sr_sw", 2), ("st", 1)], ids=str)
def test_centre_initialisation_gives_the_reference_outputs(
    gtm: tuple[str, int], image_file: Path, caplog: pytest.LogCaptureFixture
) -> None:
    golden = read_golden("mlp3d/mlp3d_xs_inflated_t16")
    network = create_model("mlp3d_xs_k400", num_classes=1000, num_frames=16, gtm=gtm)
    load_checkpoint(network, image_file)
    (warning,) = caplog.messages
    assert "is of a CycleMLP: mlp3d_xs_k400 answers as that on every fourth frame" in warning
    with torch.inference_mode():
        logits = network(torch.from_numpy(golden_input((1, 3, 16, 64, 64))))
    assert relative_error(logits.numpy().ravel(), np.asarray(golden["logits"], dtype=np.float32)) < TOLERANCE


@pytest.mark.parametrize("name", ["mlp3d_xs_ssv2", "mlp3d_xs_twopath_ssv2"])
def test_a_static_clip_gives_the_image_networks_answer(name: str, image_file: Path) -> None:
    expected = np.asarray(read_golden("mlp3d/cyclemlp_b1")["logits"], dtype=np.float32)
    network = create_model(name, num_classes=1000, num_frames=16, gtm=("sr_lr", 2))
    load_checkpoint(network, image_file)
    clip = torch.from_numpy(golden_input((1, 3, 224, 224))).unsqueeze(2).expand(-1, -1, 16, -1, -1)
    with torch.inference_mode():
        logits = network(clip)
        if "twopath" in name:
            # Nothing moves, so the second path sees zeros and its answer is known to be half of the output.
            logits = 2 * logits - network.path2(torch.zeros_like(clip))
    assert relative_error(logits.numpy().ravel(), expected) < TOLERANCE


@pytest.mark.parametrize("name", ["mlp3d_xs_k400", "mlp3d_xs_twopath_k400"])
def test_another_data_sets_head_stays_fresh(name: str, image_file: Path) -> None:
    network = create_model(name)
    heads = {key: value.clone() for key, value in network.state_dict().items() if "head." in key}
    message = r"CycleMLP without a head for 400 classes.*initialize_from_cyclemlp.*it would fit cyclemlp_b1_in1k$"
    with pytest.raises(CheckpointError, match=message):
        load_checkpoint(network, image_file)
    image = torch.load(image_file, weights_only=True)["model"]
    initialize_from_cyclemlp(network, image)
    state = network.state_dict()
    for key, value in heads.items():
        assert torch.equal(state[key], value)
    for prefix in ("path1.", "path2.") if "twopath" in name else ("",):
        assert torch.equal(state[f"{prefix}network.6.1.attn.mlp_t.weight"][0], image["network.6.1.attn.mlp_c.weight"])
        assert torch.equal(state[f"{prefix}patch_embed.proj.weight"][:, :, 2], image["patch_embed.proj.weight"])


@pytest.mark.parametrize("name", ["mlp3d_xs_k400", "mlp3d_xs_twopath_k400"])
def test_another_cyclemlp_is_no_start_and_both_are_named(name: str) -> None:
    with torch.device("meta"):
        state = create_model("cyclemlp_b2_in1k").state_dict()
    message = f"the weights are of cyclemlp_b2_in1k, and {name} grows from cyclemlp_b1_in1k: give weights of that"
    with pytest.raises(CheckpointError, match=message):
        initialize_from_cyclemlp(create_model(name), state)


def test_a_refused_start_changes_nothing(image_file: Path) -> None:
    network = create_model("mlp3d_s_k400")
    before = {key: value.clone() for key, value in network.state_dict().items()}
    with pytest.raises(CheckpointError, match=r"are of cyclemlp_b1_in1k, and mlp3d_s_k400 grows from cyclemlp_b2_in1k"):
        initialize_from_cyclemlp(network, torch.load(image_file, weights_only=True)["model"])
    assert all(torch.equal(value, before[key]) for key, value in network.state_dict().items())


def test_weights_of_no_cyclemlp_are_no_start(image_file: Path) -> None:
    with pytest.raises(CheckpointError, match="are of no CycleMLP that is known here, and mlp3d_xs_ssv2 grows from"):
        initialize_from_cyclemlp(create_model("mlp3d_xs_ssv2"), {"head.weight": torch.zeros(5, 7)})
    short = create_model("mlp3d_xs_ssv2", depths=(1, 1, 1, 1))
    with pytest.raises(CheckpointError, match=r"grows from a CycleMLP of depths=\(1, 1, 1, 1\), embed_dims="):
        initialize_from_cyclemlp(short, torch.load(image_file, weights_only=True)["model"])


# ---------------------------------------------------------------------------------------------------------------------
# Two paths


def test_the_second_path_sees_the_clip_without_its_average_frame() -> None:
    settings: dict[str, Any] = {"num_frames": 16, "num_classes": 5}
    network = create_model("mlp3d_xs_twopath_k400", **settings)
    averaging = create_model("mlp3d_xs_twopath_k400", fusion="softmax", **settings)
    averaging.load_state_dict(network.state_dict())
    clip = torch.randn(2, 3, 16, 32, 32)
    with torch.inference_mode():
        first = network.path1(clip)
        second = network.path2(clip - sum(clip[:, :, t : t + 1] for t in range(16)) / 16)
        torch.testing.assert_close(network(clip), (first + second) / 2)
        torch.testing.assert_close(averaging(clip).softmax(1), (first.softmax(1) + second.softmax(1)) / 2)


def test_the_second_path_may_look_at_another_size() -> None:
    network = create_model("mlp3d_xs_twopath_k400", num_frames=16, second_path_size=32)
    seen: list[torch.Size] = []
    for path in (network.path1, network.path2):
        path.register_forward_pre_hook(lambda _module, inputs: seen.append(inputs[0].shape))
    with torch.inference_mode():
        network(torch.randn(1, 3, 16, 64, 64))
    assert seen == [(1, 3, 16, 64, 64), (1, 3, 16, 32, 32)]


# ---------------------------------------------------------------------------------------------------------------------
# Variants


# Counted on another implementation of the paper: groups of four at 64 x 224 x 224, 400 classes; millions of parameters
# of shift_token and of a window type. GMACs of CycleFC's shifts come on top, less than 1 %.
@pytest.mark.parametrize(
    ("name", "shift_token", "windows", "gmacs"),
    [
        ("mlp3d_xs_k400", 17.80, 20.72, 42.89),
        ("mlp3d_s_k400", 32.13, 37.73, 77.96),
        ("mlp3d_m_k400", 46.23, 54.35, 134.17),
        ("mlp3d_l_k400", 91.78, 108.23, 244.92),
        ("mlp3d_l_twopath_k400", 183.6, 216.5, 489.8),
    ],
)
def test_variants_have_the_calculated_size(name: str, shift_token: float, windows: float, gmacs: float) -> None:
    for gtm, millions in ((("st", 4), shift_token), (("sr_sw", 4), windows)):
        with torch.device("meta"):
            network = create_model(name, gtm=gtm)
            counted = count_gmacs(network, (3, 64, 224, 224))
        parameters = sum(parameter.numel() for parameter in network.parameters()) / 1e6
        assert parameters == pytest.approx(millions, abs=0.005 if millions < 150 else 0.05)
        assert counted == pytest.approx(gmacs, rel=0.01)


# The paper's tables 3 to 5 print a view's; Something-Something is tested in 1 x 3 views, Kinetics in 4 x 3.
@pytest.mark.parametrize(
    ("dataset", "views", "gflops"),
    [("ssv1", 3, (60, 108, 183, 336)), ("ssv2", 3, (60, 108, 183, 336)), ("k400", 12, (57, 102, 170, 308))],
)
def test_published_multiply_adds_are_those_of_all_views(dataset: str, views: int, gflops: tuple[int, ...]) -> None:
    for size, of_a_view in zip(("xs", "s", "m", "l"), gflops, strict=True):
        published = model_entry(f"mlp3d_{size}_twopath_{dataset}").weights.published
        assert published is not None
        assert published.gflops == views * of_a_view


def test_one_pair_and_presets_stand_for_all_blocks() -> None:
    assert assign_blocks(("long_range", 2), 3) == [("long_range", 2)] * 3
    assert assign_blocks(("sr_lr", 8), 3) == [("short_range", 8), ("long_range", 8), ("short_range", 8)]
    mixed: Any = [("short_range", 4), ["shift_token", 3]]
    assert assign_blocks(mixed, 2) == [("short_range", 4), ("shift_token", 3)]


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        ({"num_frames": 30}, "30 frames .* multiple of 4"),
        ({"num_frames": 0}, "0 frames .* multiple of 4"),
        ({"num_frames": 24, "gtm": ("short_range", 4)}, "groups of 4 .* 6 steps .* divides 6, or 16 frames"),
        ({"num_frames": 8, "gtm": ("long_range", 4)}, "groups of 4 .* 2 steps"),
        ({"gtm": ("shift_window", 5)}, "group of 5 has no half"),
        ({"gtm": ("sideways", 4)}, "types are short_range, .* sr_lr"),
        ({"gtm": ("st", 0)}, "sizes start at 1"),
        ({"gtm": "sr_lr"}, "one pair for all"),
        ({"gtm": [("short_range", 4)] * 3}, "3 blocks and the network has 10"),
    ],
)
def test_settings_that_do_not_fit_are_refused(overrides: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        create_model("mlp3d_xs_k400", **overrides)


def test_a_clip_that_does_not_fit_is_refused(of_one_type: dict[str, Network]) -> None:
    with pytest.raises(ValueError, match="33 frames"):
        of_one_type["shift_token"](torch.zeros(1, 3, 33, 32, 32))
    with pytest.raises(ValueError, match="6 steps in time"):
        of_one_type["long_range"](torch.zeros(1, 3, 24, 32, 32))


def test_a_sibling_checkpoint_is_refused_with_the_name_that_fits(tmp_path: Path) -> None:
    file = tmp_path / "s.pth"
    torch.save(create_model("mlp3d_s_k400").state_dict(), file)
    with pytest.raises(CheckpointError, match=r"would fit mlp3d_s_k400, mlp3d_s_ssv1, mlp3d_s_ssv2"):
        load_checkpoint(create_model("mlp3d_xs_twopath_k400"), file)

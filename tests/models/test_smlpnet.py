from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from models import CheckpointError, create_model, list_models, load_checkpoint
from models.figures import count_gmacs
from models.smlpnet import SMLPNet, resize_projections
from tests.golden.fill import golden_input
from tests.models.golden_check import read_golden

WIDTH_WEIGHT, WIDTH_BIAS = "token_mix.0.1.proj_h.weight", "token_mix.0.1.proj_h.bias"


def test_every_published_name_is_there() -> None:
    published = ["smlpnet_b_in1k", "smlpnet_s_in1k", "smlpnet_t_in1k", "smlpnet_t_star_in1k"]
    assert list_models("smlpnet") == [*published, "smlpnet_tiny_shapes"]


def test_size_of_b_is_that_of_the_reference_network() -> None:
    with torch.device("meta"):
        network = create_model("smlpnet_b_in1k")
        assert sum(parameter.numel() for parameter in network.parameters()) == 65_880_408
        assert count_gmacs(network, (3, 224, 224)) == pytest.approx(13.987, rel=1e-3)


@pytest.mark.parametrize("input_size", [192, 240, (256, 192)])
def test_a_network_of_another_size_takes_that_size_only(input_size: int | tuple[int, int]) -> None:
    network = create_model("smlpnet_t_star_in1k", depths=(1, 1, 1, 1), input_size=input_size)
    height, width = input_size if isinstance(input_size, tuple) else (input_size, input_size)
    x = torch.from_numpy(golden_input((2, 3, height, width)))
    with torch.inference_mode():
        together, alone = network(x), network(x[1:])
    assert together.shape == (2, 1000)
    torch.testing.assert_close(together[1:], alone, rtol=1e-4, atol=1e-5)
    with pytest.raises(ValueError, match=f"{height}x{width} images alone and got 224x224: resize or crop"):
        network(torch.zeros(1, 3, 224, 224))


def test_an_input_size_too_small_for_four_stages_is_refused() -> None:
    with pytest.raises(ValueError, match="input_size=28"):
        create_model("smlpnet_t_in1k", input_size=28)


def networks_of_224_and_288() -> tuple[SMLPNet, SMLPNet]:
    """Two short networks; their first maps are 56 and 72 wide."""
    small, large = (create_model("smlpnet_t_star_in1k", depths=(1, 1, 1, 1), input_size=size) for size in (224, 288))
    assert isinstance(small, SMLPNet)
    assert isinstance(large, SMLPNet)
    return small, large


def resized_operator(matrix: Tensor) -> Tensor:
    """Return what becomes of a 56 x 56 operator in the first block when the input grows from 224 to 288."""
    small, large = networks_of_224_and_288()
    state = small.state_dict() | {WIDTH_WEIGHT: matrix.reshape(56, 56, 1, 1)}
    return resize_projections(state, large)[WIDTH_WEIGHT].reshape(72, 72)


def test_resizing_keeps_the_mean_a_mean() -> None:
    torch.testing.assert_close(resized_operator(torch.full((56, 56), 1 / 56)), torch.full((72, 72), 1 / 72))


def resized_signal(signal: Tensor) -> Tensor:
    """Return a signal on 56 points resized to 72, with the filter of the operators."""
    plane = signal.expand(1, 1, 56, 56)
    return nn.functional.interpolate(plane, size=(56, 72), mode="bicubic", align_corners=False)[0, 0, 0]


def test_resizing_a_smooth_operator_commutes_with_resizing_its_signal() -> None:
    line = (torch.arange(56) + 0.5) / 56
    # Neither symmetric nor the same along the line, so that a transposed or mirrored result would show.
    distance = line[:, None] - line[None, :] - 0.1
    operator = torch.exp(-((distance / 0.25) ** 2)) * (1 + 0.5 * line[:, None]) / 56
    signal = 1 + torch.sin(5 * line)

    resized = resized_operator(operator)
    sums, expected = resized.sum(dim=1), resized_signal(operator.sum(dim=1))
    assert (sums - expected).abs().max() < 1e-4 * expected.abs().max()
    output, expected = resized @ resized_signal(signal), resized_signal(operator @ signal)
    assert (output - expected).abs().max() < 2e-3 * expected.abs().max()


def test_a_resized_file_loads_and_the_rest_of_it_is_untouched() -> None:
    small, large = networks_of_224_and_288()
    resized = resize_projections(small.state_dict(), large)
    large.load_state_dict(resized, strict=True)
    line = small.state_dict()[WIDTH_BIAS].reshape(1, 1, 56)
    torch.testing.assert_close(resized[WIDTH_BIAS], nn.functional.interpolate(line, 72, mode="linear").flatten())
    for key, tensor in small.state_dict().items():
        if "proj_h" not in key and "proh_w" not in key:
            assert torch.equal(resized[key], tensor)
    same = resize_projections(small.state_dict(), small)
    assert all(torch.equal(same[key], tensor) for key, tensor in small.state_dict().items())


@pytest.mark.parametrize("other", ["smlpnet_s_in1k", "smlpnet_b_in1k", "smlpnet_t_star_in1k"])
def test_weights_of_another_variant_are_not_resized(other: str) -> None:
    with torch.device("meta"):
        network, state = create_model("smlpnet_t_in1k", input_size=288), create_model(other).state_dict()
    assert isinstance(network, SMLPNet)
    with pytest.raises(ValueError, match=f"the weights are of {other}, and smlpnet_t_in1k takes those of its own var"):
        resize_projections(state, network)


def save_reference_layout(golden: str, path: Path) -> None:
    """Write a file with the keys and shapes of a golden file's checkpoint, and no content worth the disk space."""
    spec = read_golden(golden)["state_dict"]
    torch.save({"model": {key: torch.zeros(()).expand(shape) for key, shape, _ in spec}}, path)


def test_a_file_for_224_is_refused_at_another_size(tmp_path: Path) -> None:
    save_reference_layout("smlpnet/t", tmp_path / "t.pth")
    with pytest.raises(CheckpointError, match=r"56 wide, and with input_size=288 it is 72.*resize_projections"):
        load_checkpoint(create_model("smlpnet_t_in1k", input_size=288), tmp_path / "t.pth")


def test_a_file_of_a_sibling_is_refused_and_the_sibling_named(tmp_path: Path) -> None:
    save_reference_layout("smlpnet/t_star", tmp_path / "t_star.pth")
    with pytest.raises(CheckpointError, match="it would fit smlpnet_t_star_in1k"):
        load_checkpoint(create_model("smlpnet_t_in1k"), tmp_path / "t_star.pth")

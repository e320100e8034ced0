"""CycleMLP: its shifts against a deformable sampler, its sizes, its variants."""

from math import floor
from pathlib import Path
from typing import Literal

import pytest
import torch
from torch import Tensor

from models import CheckpointError, create_model, load_checkpoint
from models.cyclemlp import CycleFC
from models.figures import count_gmacs


def sample_bilinearly(plane: Tensor, row: float, column: float) -> float:
    """Return the value of `plane` (H, W) at a real position, zero outside."""
    value = 0.0
    for r in (floor(row), floor(row) + 1):
        for c in (floor(column), floor(column) + 1):
            if 0 <= r < plane.shape[0] and 0 <= c < plane.shape[1]:
                value += float(plane[r, c]) * (1 - abs(row - r)) * (1 - abs(column - c))
    return value


@pytest.mark.parametrize("axis", ["height", "width"])
@pytest.mark.parametrize("size", [(1, 1), (2, 3), (5, 4)])
def test_cycle_fc_is_the_deformable_convolution_of_its_offsets(
    axis: Literal["height", "width"], size: tuple[int, int]
) -> None:
    channels = 7
    layer = CycleFC(channels, axis).double()
    torch.nn.init.normal_(layer.bias)
    x = torch.randn(2, channels, *size, dtype=torch.float64)
    # The official rule for a kernel of three; row offset, then column offset of each channel.
    expected_offsets = [(i + 1) % 3 - 1 for i in range(channels)]
    along, across = (0, 1) if axis == "height" else (1, 0)
    assert layer.offset.shape == (1, 2 * channels, 1, 1)
    assert layer.offset.flatten()[along::2].tolist() == expected_offsets
    assert not layer.offset.flatten()[across::2].any()

    sampled = torch.zeros_like(x)
    offsets = layer.offset.flatten().tolist()
    for b, i, row, column in torch.cartesian_prod(*(torch.arange(n) for n in x.shape)).tolist():
        sampled[b, i, row, column] = sample_bilinearly(x[b, i], row + offsets[2 * i], column + offsets[2 * i + 1])
    expected = torch.einsum("oi,bihw->bohw", layer.weight[:, :, 0, 0], sampled) + layer.bias[:, None, None]
    torch.testing.assert_close(layer(x).transpose(1, 2).reshape(x.shape), expected, rtol=1e-12, atol=1e-12)


# Counted on the official network at the commit that models/cyclemlp.py names; the shifts add less than 1 % to it.
@pytest.mark.parametrize(("name", "millions", "gmacs"), [("b3", 38.39, 6.83), ("b5", 75.75, 12.23)])
def test_variants_without_golden_have_the_official_size(name: str, millions: float, gmacs: float) -> None:
    with torch.device("meta"):
        network = create_model(f"cyclemlp_{name}_in1k")
        counted = count_gmacs(network, (3, 224, 224))
    assert sum(parameter.numel() for parameter in network.parameters()) / 1e6 == pytest.approx(millions, abs=0.005)
    assert counted == pytest.approx(gmacs, rel=0.01)


def test_pictures_of_a_batch_do_not_mix() -> None:
    network = create_model("cyclemlp_b1_in1k")
    pictures = torch.randn(2, 3, 65, 98)
    with torch.inference_mode():
        torch.testing.assert_close(network(pictures), torch.cat([network(picture[None]) for picture in pictures]))


def test_a_sibling_checkpoint_is_refused_with_the_name_that_fits(tmp_path: Path) -> None:
    file = tmp_path / "CycleMLP_B2.pth"
    torch.save({"model": create_model("cyclemlp_b2_in1k").state_dict()}, file)
    with pytest.raises(CheckpointError, match=r"would fit cyclemlp_b2_in1k"):
        load_checkpoint(create_model("cyclemlp_b1_in1k"), file)

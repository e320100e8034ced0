"""What holds for the forward of every family."""

from typing import Any

import pytest
import torch

from models import create_model
from tests.models.golden_check import relative_error

# One member of each kind, at the size or length that makes it quick where the network allows another.
NETWORKS: list[tuple[str, dict[str, Any], tuple[int, ...]]] = [
    ("uniformer_tiny_shapes", {}, (8, 96, 96)),
    ("uniformer_s_tl_in1k", {}, (128, 128)),
    ("uniformer_xxs_8x128_k400", {}, (8, 128, 128)),
    ("mvit_s_16x4_k400", {"num_frames": 4, "input_size": 64}, (4, 64, 64)),
    ("mvit_b16_max_in1k", {"input_size": 64}, (64, 64)),
    ("morphmlp_s_16x4_k400", {}, (16, 224, 224)),
    ("smlpnet_t_star_in1k", {}, (224, 224)),
    ("cyclemlp_b1_in1k", {"input_size": 128}, (128, 128)),
    ("mlp3d_xs_ssv2", {"num_frames": 16, "input_size": 64}, (16, 64, 64)),
]


@pytest.mark.parametrize(("name", "overrides", "size"), NETWORKS, ids=[name for name, _, _ in NETWORKS])
def test_batch_of_two_equals_two_singles(name: str, overrides: dict[str, Any], size: tuple[int, ...]) -> None:
    torch.manual_seed(0)
    network = create_model(name, **overrides)
    x = torch.randn(2, 3, *size)
    with torch.inference_mode():
        together = network(x)
        singles = torch.cat([network(x[:1]), network(x[1:])])
        again = network(x)
    assert relative_error(together.numpy(), singles.numpy()) < 1e-5
    # No state is carried from one forward to the next.
    assert torch.equal(together, again)

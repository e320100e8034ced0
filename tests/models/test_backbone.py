"""The backbones of dense prediction: sizes, roundings and norms, as their documentation promises them."""

from dataclasses import replace

import pytest
import torch
from torch import Tensor

from models import morphmlp, uniformer, uniformer_light
from models.backbone import DenseBackbone

SHALLOW = (1, 1, 2, 1)
BACKBONES: dict[str, DenseBackbone] = {
    "patches": uniformer.DenseUniFormer(replace(uniformer.SMALL, depths=SHALLOW)),
    "convolutions": uniformer.DenseUniFormer(replace(uniformer.SMALL_PLUS, depths=SHALLOW)),
    "windows": uniformer.DenseUniFormer(replace(uniformer.SMALL, depths=SHALLOW, stage3="window")),
    "light": uniformer_light.DenseUniFormerLight(replace(uniformer_light.XXS, depths=SHALLOW)),
    "morphmlp": morphmlp.DenseMorphMLP(replace(morphmlp.TINY, depths=SHALLOW)),
}


def stages_of(name: str, height: int, width: int) -> list[Tensor]:
    with torch.inference_mode():
        return BACKBONES[name].eval()(torch.randn(2, 3, height, width))


@pytest.mark.parametrize(
    ("name", "smallest"), [("patches", 32), ("convolutions", 1), ("windows", 32), ("light", 64), ("morphmlp", 1)]
)
def test_the_smallest_size_is_taken(name: str, smallest: int) -> None:
    stages = stages_of(name, smallest, smallest)
    assert [tuple(stage.shape[2:]) for stage in stages] == [(max(smallest >> level, 1),) * 2 for level in (2, 3, 4, 5)]
    for stage, dim in zip(stages, BACKBONES[name].config.embed_dims, strict=True):
        assert (stage.dtype, stage.shape[:2]) == (torch.float32, (2, dim))


DOWN, UP, UP_THEN_DOWN = [23, 11, 5, 2], [25, 13, 7, 4], [25, 12, 6, 3]


@pytest.mark.parametrize(
    ("name", "heights"),
    [("patches", DOWN), ("convolutions", UP), ("windows", DOWN), ("light", UP_THEN_DOWN), ("morphmlp", UP)],
)
def test_sides_are_rounded_as_said(name: str, heights: list[int]) -> None:
    height = 95 if heights is DOWN else 97
    assert [stage.shape[2] for stage in stages_of(name, height, 64)] == heights


# The norms' epsilons are those of the checkpoints' code, and of torch for MorphMLP, whose code was never published.
@pytest.mark.parametrize(("name", "eps"), [("patches", 1e-6), ("light", 1e-6), ("morphmlp", 1e-5)])
def test_every_stage_leaves_normalised_and_the_next_does_not_see_it(name: str, eps: float) -> None:
    backbone, x = BACKBONES[name].eval(), torch.randn(1, 3, 64, 96)
    with torch.inference_mode():
        for raw, normalised in zip(backbone.forward_stages(x), backbone(x), strict=True):
            mean, variance = raw.mean(1, keepdim=True), raw.var(1, keepdim=True, unbiased=False)
            torch.testing.assert_close(normalised, (raw - mean) / (variance + eps).sqrt(), rtol=1e-3, atol=1e-3)
    assert {norm.eps for key, norm in backbone.named_children() if key.startswith("norm")} == {eps}

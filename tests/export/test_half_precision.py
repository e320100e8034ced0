"""fp16 files of every family, by the demo's trained networks: they keep to their limit, and say what torch says."""

from pathlib import Path

import pytest
import torch

from export.graph import export_onnx, input_shape, served_network
from export.verification import torch_cases, verify
from models import create_model, load_checkpoint
from tests.server import ROOT

WEIGHTS = sorted((ROOT / "demo/weights").glob("*.safetensors"))
# Large pictures take long, and the other one's files are tested one by one in test_precisions.py.
SLOW = {"uniformer_tiny_shapes_fpn", "uniformer_tiny_shapes"}


def test_there_is_one_of_each_demo_network() -> None:
    assert len(WEIGHTS) == 7


@pytest.mark.timeout(600)
@pytest.mark.parametrize(
    "weights",
    [pytest.param(file, id=file.stem, marks=[pytest.mark.slow] if file.stem in SLOW else []) for file in WEIGHTS],
)
def test_half_precision_keeps_to_its_limit(weights: Path, tmp_path: Path) -> None:
    network, file = create_model(weights.stem), tmp_path / "model.fp16.onnx"
    load_checkpoint(network, weights)
    export_onnx(served_network(network, torch.float16), input_shape(weights.stem), 2, file)
    found = verify(file, "fp16", torch_cases(weights.stem, served_network(network)), 2)
    assert found.batch_sizes == (1, 2)
    # Exact would be a file in float32.
    assert 1e-5 < found.relative_error < 1e-1

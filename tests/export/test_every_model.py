"""Every network survives its export: ONNX Runtime computes what torch computes, at batch 1, 2 and 3."""

from pathlib import Path

import pytest

from export.graph import export_onnx, input_shape, served_network
from export.verification import RELATIVE_TOLERANCE, torch_logits, verification_inputs, verify
from models import create_model, list_models, model_entry

# One light member of each family in the default run; all others on request.
DEFAULT = {
    "cyclemlp_b1_in1k",
    "morphmlp_t_in1k",
    "mvit_b16_max_in1k",
    "smlpnet_t_star_in1k",
    "uniformer_s_in1k",
    "uniformer_xxs_4x128_k400",
}
NAMES = list_models()


def is_same_network(name: str, other: str) -> bool:
    a, b = model_entry(name), model_entry(other)
    return (a.family, a.config, a.weights.preprocessing) == (b.family, b.config, b.weights.preprocessing)


# Names that differ in their weights alone are one export.
DISTINCT = [name for i, name in enumerate(NAMES) if not any(is_same_network(name, other) for other in NAMES[:i])]


@pytest.mark.timeout(1800)
@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=[] if name in DEFAULT else pytest.mark.slow) for name in DISTINCT]
)
def test_exported_network_equals_torch(name: str, tmp_path: Path) -> None:
    served, shape, file = served_network(create_model(name)), input_shape(name), tmp_path / "model.onnx"
    export_onnx(served, shape, 3, file)
    views = verification_inputs(shape, 3)
    assert verify(file, views, torch_logits(served, views), 3).relative_error < RELATIVE_TOLERANCE

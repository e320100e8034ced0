"""Every network survives its export: ONNX Runtime computes what torch computes, in batches of 1, 2, 3 and the most."""

from pathlib import Path

import onnx
import pytest

from export.graph import export_onnx, input_shape, served_network
from export.verification import ACCEPTANCE, torch_cases, verify
from models import create_model, list_models, model_entry
from tests.export.graph_quality import check_graph

# Light members of each family in the default run; all others on request.
DEFAULT = {
    "cyclemlp_b1_in1k",
    "mlp3d_tiny_shapes",
    "morphmlp_t_in1k",
    "morphmlp_tiny_shapes",
    "mvit_b16_max_in1k",
    "smlpnet_t_star_in1k",
    "uniformer_s_in1k",
    "uniformer_tiny_shapes_fpn",
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
    network, file = create_model(name), tmp_path / "model.onnx"
    served = served_network(network)
    export_onnx(served, input_shape(name), 4, file)
    check_graph(network, input_shape(name), onnx.load(file))
    verification = verify(file, "fp32", torch_cases(name, served), 4)
    assert verification.batch_sizes == (1, 2, 3, 4)
    assert verification.relative_error < ACCEPTANCE["fp32"].relative_error

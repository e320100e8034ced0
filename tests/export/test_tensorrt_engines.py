"""TensorRT-RTX builds an engine of every network in every precision: parsing alone proves little.

It builds without a GPU, for GPUs that are not here. Full TensorRT takes the same files by the same code; whether it
builds all of them was not tried.
"""

from collections.abc import Iterator
from pathlib import Path
from typing import get_args

import onnx
import pytest
import tensorrt_rtx
import torch

from export.engines import view_shapes
from export.graph import export_onnx, input_shape, served_network
from export.quantization import quantise_everything
from export.verification import ACCEPTANCE, verification_inputs
from models import Network, create_model
from service.manifest import PrecisionName, read_artefact
from service.repository.served import view_shapes as served_shapes
from service.runtimes.tensorrt.building import BuildRequest, Profiles, build
from tests.export.fewest_blocks import is_as_short, short_network
from tests.export.test_every_model import DISTINCT
from tests.server import ROOT

BATCH_SIZES = (1, 2)
# The smallest of each family, and one with a head that finds key points.
LIGHT = (
    "cyclemlp_b1_in1k",
    "mlp3d_tiny_shapes",
    "morphmlp_tiny_shapes",
    "mvit_tiny_shapes",
    "smlpnet_tiny_shapes",
    "uniformer_b_pose_coco",
    "uniformer_light_tiny_shapes",
    "uniformer_tiny_shapes",
    "uniformer_tiny_shapes_fpn",
)
# Of those that differ only in how many blocks of the same kind, or how many classes, they have.
SHORT = [name for i, name in enumerate(DISTINCT) if not any(is_as_short(name, other) for other in DISTINCT[:i])]
DTYPES: dict[PrecisionName, torch.dtype] = {"fp32": torch.float32, "fp16": torch.float16, "bf16": torch.bfloat16}


def write_files(network: Network, view: tuple[int, ...], folder: Path) -> Iterator[tuple[PrecisionName, Path]]:
    """Export the network in every precision, in the form that an artefact has it; int8 with every layer quantised."""

    def written(precision: PrecisionName, dtype: torch.dtype, name: str) -> Path:
        file = folder / f"{name}.onnx"
        export_onnx(served_network(network, dtype), view, max(BATCH_SIZES), file, ACCEPTANCE[precision].runtime)
        return file

    for precision, dtype in DTYPES.items():
        yield precision, written(precision, dtype, precision)
    source = written("int8", torch.float32, "before int8")
    quantise_everything(source, folder / "int8.onnx", list(verification_inputs(view, 1)))
    yield "int8", folder / "int8.onnx"


def build_all(name: str, network: Network, folder: Path) -> None:
    shapes = Profiles(BATCH_SIZES, **view_shapes(name))
    built = []
    for precision, file in write_files(network, input_shape(name), folder):
        onnx.checker.check_model(onnx.load(file), full_check=True)
        plan = build(tensorrt_rtx, BuildRequest(file, precision, shapes, is_for_here=False))
        # An engine holds the weights at least, in one byte each where they are quantised.
        assert len(plan) > sum(weight.numel() for weight in network.parameters())
        built.append(precision)
    assert built == list(get_args(PrecisionName))


@pytest.mark.parametrize(
    "folder", sorted((ROOT / "model_repository").glob("*/1")), ids=lambda folder: folder.parent.name
)
def test_engines_are_built_for_the_views_that_the_server_asks_for(folder: Path) -> None:
    manifest = read_artefact(folder).manifest
    assert tuple(view_shapes(manifest.name).values()) == served_shapes(manifest)


@pytest.mark.timeout(1800)
@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=[] if name in LIGHT else pytest.mark.slow) for name in SHORT]
)
def test_engine_is_built_of_every_kind_of_network_in_each_precision(name: str, tmp_path: Path) -> None:
    torch.manual_seed(0)
    build_all(name, short_network(name), tmp_path)


@pytest.mark.slow
@pytest.mark.timeout(3600)
@pytest.mark.parametrize("name", DISTINCT)
def test_engine_is_built_of_every_network_in_each_precision(name: str, tmp_path: Path) -> None:
    torch.manual_seed(0)
    build_all(name, create_model(name), tmp_path)

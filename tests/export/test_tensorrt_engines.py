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

from export.graph import ServedNetwork, export_onnx, input_shape, served_network
from export.quantization import quantise_everything
from export.verification import LIMITS, verification_inputs
from models import Network, create_model
from service.manifest import PrecisionName
from service.runtimes.tensorrt.building import BuildRequest, Profiles, build
from tests.export.fewest_blocks import is_as_short, short_network
from tests.export.test_every_model import DISTINCT

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


def profiles(served: ServedNetwork, view: tuple[int, ...]) -> Profiles:
    """Return the views that the network is served with: of segmentation any from 64 x 64 on."""
    if "mask" in served.output_names:
        return Profiles(BATCH_SIZES, (64, 64, 3), view, (1024, 1024, 3))
    return Profiles(BATCH_SIZES, view, view, view)


def write_files(network: Network, view: tuple[int, ...], folder: Path) -> Iterator[tuple[PrecisionName, Path]]:
    """Export the network in every precision, in the form that an artefact has it; int8 with every layer quantised."""

    def written(precision: PrecisionName, dtype: torch.dtype, name: str) -> Path:
        file = folder / f"{name}.onnx"
        export_onnx(served_network(network, dtype), view, max(BATCH_SIZES), file, LIMITS[precision].runtime)
        return file

    for precision, dtype in DTYPES.items():
        yield precision, written(precision, dtype, precision)
    source = written("int8", torch.float32, "before int8")
    quantise_everything(source, folder / "int8.onnx", list(verification_inputs(view, 1)))
    yield "int8", folder / "int8.onnx"


def build_all(network: Network, view: tuple[int, ...], folder: Path) -> None:
    shapes = profiles(served_network(network), view)
    built = []
    for precision, file in write_files(network, view, folder):
        onnx.checker.check_model(onnx.load(file), full_check=True)
        plan = build(tensorrt_rtx, BuildRequest(file, precision, shapes, is_for_here=False))
        # An engine holds the weights at least, in one byte each where they are quantised.
        assert len(plan) > sum(weight.numel() for weight in network.parameters())
        built.append(precision)
    assert built == list(get_args(PrecisionName))


@pytest.mark.timeout(1800)
@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=[] if name in LIGHT else pytest.mark.slow) for name in SHORT]
)
def test_engine_is_built_of_every_kind_of_network_in_each_precision(name: str, tmp_path: Path) -> None:
    torch.manual_seed(0)
    build_all(short_network(name), input_shape(name), tmp_path)


@pytest.mark.slow
@pytest.mark.timeout(3600)
@pytest.mark.parametrize("name", DISTINCT)
def test_engine_is_built_of_every_network_in_each_precision(name: str, tmp_path: Path) -> None:
    torch.manual_seed(0)
    build_all(create_model(name), input_shape(name), tmp_path)

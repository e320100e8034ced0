"""TensorRT-RTX builds an engine of every network in every precision: parsing alone proves little.

It builds without a GPU, for GPUs that are not here. Full TensorRT takes the same files by the same code; whether it
builds all of them was not tried.
"""

import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any, get_args

import pytest
import tensorrt_rtx
import torch

import export.quantization
from export.graph import ServedNetwork, export_onnx, input_shape, served_network
from export.quantization import quantise
from export.verification import verification_inputs
from models import Network, create_model
from service.manifest import PrecisionName
from service.runtimes.tensorrt.building import BuildRequest, Profiles, build
from tests.export.test_every_model import DISTINCT

BATCH_SIZES = (1, 2)
SEGMENTOR = "uniformer_tiny_shapes_fpn"
ONE_BLOCK = {"depths": (1, 1, 1, 1)}
# One of each family, with as few blocks as have every kind of layer; all networks as they are on request.
LIGHT: dict[str, dict[str, Any]] = {
    "cyclemlp_b1_in1k": ONE_BLOCK,
    "mlp3d_xs_k400": ONE_BLOCK | {"num_frames": 16},
    "morphmlp_s_16x4_k400": ONE_BLOCK,
    "mvit_b_16x4_k400": ONE_BLOCK,
    "smlpnet_t_star_in1k": ONE_BLOCK,
    "uniformer_tiny_shapes": {},
    "uniformer_xxs_4x128_k400": ONE_BLOCK,
    SEGMENTOR: {},
}
DTYPES = {"fp32": torch.float32, "fp16": torch.float16, "bf16": torch.bfloat16}


def profiles(served: ServedNetwork, view: tuple[int, ...]) -> Profiles:
    """Return the views that the network is served with: of segmentation any from 64 x 64 on."""
    if "mask" in served.output_names:
        return Profiles(BATCH_SIZES, (64, 64, 3), view, (1024, 1024, 3))
    return Profiles(BATCH_SIZES, view, view, view)


def write_files(network: Network, view: tuple[int, ...], folder: Path) -> Iterator[tuple[PrecisionName, Path]]:
    """Export the network in every precision; int8 with every layer quantised."""
    for precision, dtype in DTYPES.items():
        served = served_network(network, dtype)
        export_onnx(served, view, max(BATCH_SIZES), folder / f"{precision}.onnx")
        yield precision, folder / f"{precision}.onnx"  # type: ignore[misc]
    views = list(verification_inputs(view, 1))
    assert quantise(folder / "fp32.onnx", folder / "int8.onnx", views, print) == []
    yield "int8", folder / "int8.onnx"


def build_all(network: Network, view: tuple[int, ...], folder: Path) -> None:
    shapes = profiles(served_network(network), view)
    built = []
    for precision, file in write_files(network, view, folder):
        plan = build(tensorrt_rtx, BuildRequest(file, precision, shapes, is_for_here=False))
        # An engine holds the weights at least, in one byte each where they are quantised.
        assert len(plan) > sum(weight.numel() for weight in network.parameters())
        built.append(precision)
    assert built == list(get_args(PrecisionName))


@pytest.fixture(autouse=True)
def every_layer_in_int8(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whether int8 harms a layer of random weights is not the question here."""
    monkeypatch.setattr(export.quantization, "TARGET_ERROR", math.inf)


@pytest.mark.parametrize("name", LIGHT)
def test_engine_is_built_of_each_family_in_each_precision(name: str, tmp_path: Path) -> None:
    torch.manual_seed(0)
    network = create_model(name, **LIGHT[name])
    view = input_shape(name)
    if "num_frames" in LIGHT[name]:
        view = (LIGHT[name]["num_frames"], *view[1:])
    build_all(network, view, tmp_path)


@pytest.mark.slow
@pytest.mark.timeout(3600)
@pytest.mark.parametrize("name", DISTINCT)
def test_engine_is_built_of_every_network_in_each_precision(name: str, tmp_path: Path) -> None:
    torch.manual_seed(0)
    build_all(create_model(name), input_shape(name), tmp_path)

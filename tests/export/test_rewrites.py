"""Changes to exported graphs: the same numbers as the torch module before, by the operators that were wanted."""

from collections import Counter

import numpy as np
import onnx
import onnxruntime as ort
import pytest
import torch
from torch import Tensor, nn
from torch.export import Dim

from export.graph import OPSET
from export.rewrites import RuntimeName, rewritten


def exported(module: nn.Module, x: Tensor, runtime: RuntimeName) -> onnx.ModelProto:
    program = torch.onnx.export(
        module, (x,), dynamo=True, opset_version=OPSET, dynamic_shapes=({0: Dim("batch", min=1, max=8)},), verbose=False
    )
    assert program is not None
    return rewritten(program.model_proto, runtime)


def assert_same(module: nn.Module, model: onnx.ModelProto, x: Tensor) -> None:
    onnx.checker.check_model(model, full_check=True)
    session = ort.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    for batch in (1, 2, 3):
        views = torch.randn(batch, *x.shape[1:])
        (actual,) = session.run(None, {session.get_inputs()[0].name: views.numpy()})
        with torch.inference_mode():
            wanted = module(views).numpy()
        assert np.linalg.norm(actual - wanted) < 1e-5 * np.linalg.norm(wanted)


def operators(model: onnx.ModelProto) -> Counter[str]:
    return Counter(node.op_type for node in model.graph.node)


def kernels(model: onnx.ModelProto) -> list[tuple[int, ...]]:
    """Return the shapes of the kernels of all convolutions."""
    constants = {tensor.name: tuple(tensor.dims) for tensor in model.graph.initializer}
    return [constants[node.input[1]] for node in model.graph.node if node.op_type == "Conv"]


def trained_norm(channels: int) -> nn.BatchNorm3d:
    norm = nn.BatchNorm3d(channels, eps=1e-3)
    nn.init.normal_(norm.weight)
    nn.init.normal_(norm.bias)
    norm.running_mean = torch.randn(channels)
    norm.running_var = torch.rand(channels) + 0.1
    return norm


@pytest.fixture(autouse=True)
def _seed() -> None:
    torch.manual_seed(0)


@pytest.mark.parametrize("bias", [True, False])
def test_batch_norm_becomes_part_of_the_pointwise_convolution_after_it(bias: bool) -> None:
    module = nn.Sequential(trained_norm(6), nn.Conv3d(6, 10, 1, bias=bias)).eval()
    x = torch.randn(2, 6, 4, 5, 7)
    model = exported(module, x, "openvino")
    assert operators(model) == {"Conv": 1}
    assert_same(module, model, x)


def test_batch_norm_before_a_kernel_that_sees_the_border_stays() -> None:
    module = nn.Sequential(trained_norm(6), nn.Conv3d(6, 10, 3, padding=1)).eval()
    x = torch.randn(2, 6, 4, 5, 7)
    model = exported(module, x, "openvino")
    assert operators(model) == {"BatchNormalization": 1, "Conv": 1}
    assert_same(module, model, x)


class UsedTwice(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.norm = trained_norm(6)
        self.conv = nn.Conv3d(6, 6, 1)

    def forward(self, x: Tensor) -> Tensor:
        x = self.norm(x)
        return x + self.conv(x)


def test_batch_norm_that_others_read_stays() -> None:
    module, x = UsedTwice().eval(), torch.randn(2, 6, 4, 5, 7)
    model = exported(module, x, "openvino")
    assert operators(model)["BatchNormalization"] == 1
    assert_same(module, model, x)


@pytest.mark.parametrize(
    ("steps", "kernel", "stride", "bias"),
    [
        (4, (3, 3, 3), (1, 1, 1), True),
        (2, (5, 5, 5), (1, 1, 1), True),
        (9, (5, 3, 7), (1, 1, 1), False),
        (4, (3, 3, 3), (1, 2, 3), False),
        (4, (3, 1, 1), (1, 1, 1), True),
    ],
)
def test_depthwise_convolution_over_time_has_time_as_channels(
    steps: int, kernel: tuple[int, int, int], stride: tuple[int, int, int], bias: bool
) -> None:
    module = nn.Conv3d(6, 6, kernel, stride, padding=[size // 2 for size in kernel], groups=6, bias=bias).eval()
    x = torch.randn(2, 6, steps, 9, 8)
    model = exported(module, x, "onnxruntime")
    assert operators(model) == {"Conv": 1, "Reshape": 2}
    assert kernels(model) == [(6 * steps, steps, *kernel[1:])]
    assert_same(module, model, x)


@pytest.mark.parametrize(
    "module",
    [
        nn.Conv3d(6, 6, 3, padding=1),
        nn.Conv3d(6, 12, 3, padding=1, groups=6),
        nn.Conv3d(6, 6, (1, 3, 3), padding=(0, 1, 1), groups=6),
        nn.Conv3d(6, 6, 3, stride=(2, 1, 1), padding=1, groups=6),
        nn.Conv3d(6, 6, 3, padding=(0, 1, 1), groups=6),
        nn.Conv3d(6, 6, 3, padding=(2, 1, 1), dilation=(2, 1, 1), groups=6),
    ],
    ids=["dense", "two outputs a channel", "space alone", "time stride", "time shrinks", "dilated"],
)
def test_other_convolutions_are_left_alone(module: nn.Conv3d) -> None:
    x = torch.randn(2, 6, 4, 9, 8)
    model = exported(module.eval(), x, "onnxruntime")
    assert kernels(model) == [tuple(module.weight.shape)]
    assert_same(module, model, x)


def test_openvino_keeps_the_depthwise_convolution_that_it_has_a_kernel_for() -> None:
    module = nn.Conv3d(6, 6, 3, padding=1, groups=6).eval()
    assert kernels(exported(module, torch.randn(2, 6, 4, 9, 8), "openvino")) == [(6, 1, 3, 3, 3)]


def test_weights_that_the_exporter_left_in_float32_take_the_networks_type() -> None:
    module = nn.Sequential(nn.Conv3d(6, 10, 3, padding=1), trained_norm(10)).eval().to(torch.bfloat16)
    model = exported(module, torch.randn(2, 6, 4, 5, 7).to(torch.bfloat16), "openvino")
    assert operators(model) == {"Conv": 1}
    assert {tensor.data_type for tensor in model.graph.initializer} == {onnx.TensorProto.BFLOAT16}

"""Changes to exported graphs: the same numbers as the torch module before, by the operators that were wanted."""

from collections import Counter

import numpy as np
import onnx
import onnxruntime as ort
import openvino as ov
import pytest
import torch
from torch import Tensor, nn
from torch.export import Dim

from export.graph import OPSET
from export.rewrites import RuntimeName, rewritten
from service.runtimes.openvino_depthwise import restore_depthwise


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


def loaded_by_openvino(model: onnx.ModelProto) -> ov.Model:
    loaded = ov.Core().read_model(model.SerializeToString())
    restore_depthwise(loaded)
    return loaded


def openvino_kernels(model: ov.Model) -> list[list[int]]:
    convolutions = [node for node in model.get_ordered_ops() if node.get_type_name() == "GroupConvolution"]
    return [list(node.input_value(1).get_shape()) for node in convolutions]


def assert_same_by_openvino(module: nn.Module, model: ov.Model, x: Tensor, limit: float = 1e-5) -> None:
    compiled = ov.Core().compile_model(model, "CPU", {"INFERENCE_PRECISION_HINT": "f32"})
    for batch in (1, 2, 3):
        views = torch.randn(batch, *x.shape[1:]).to(x.dtype)
        with torch.inference_mode():
            wanted = module(views).numpy()
        assert np.linalg.norm(compiled(views.numpy())[0] - wanted) < limit * np.linalg.norm(wanted)


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


OVER_TIME = pytest.mark.parametrize(
    ("steps", "kernel", "stride", "bias"),
    [
        (4, (3, 3, 3), (1, 1, 1), True),
        (2, (5, 5, 5), (1, 1, 1), True),
        (9, (5, 3, 7), (1, 1, 1), False),
        (4, (3, 3, 3), (1, 2, 3), False),
        (4, (3, 1, 1), (1, 1, 1), True),
    ],
)


def over_time(kernel: tuple[int, int, int], stride: tuple[int, int, int], bias: bool) -> nn.Conv3d:
    return nn.Conv3d(6, 6, kernel, stride, padding=[size // 2 for size in kernel], groups=6, bias=bias).eval()


@OVER_TIME
def test_depthwise_convolution_over_time_has_time_as_channels(
    steps: int, kernel: tuple[int, int, int], stride: tuple[int, int, int], bias: bool
) -> None:
    module, x = over_time(kernel, stride, bias), torch.randn(2, 6, steps, 9, 8)
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


@OVER_TIME
def test_openvino_turns_time_as_channels_back(
    steps: int, kernel: tuple[int, int, int], stride: tuple[int, int, int], bias: bool
) -> None:
    module, x = over_time(kernel, stride, bias), torch.randn(2, 6, steps, 9, 8)
    model = loaded_by_openvino(exported(module, x, "onnxruntime"))
    reach = 2 * min(kernel[0] // 2, steps - 1) + 1  # further, there are no steps
    assert openvino_kernels(model) == [[6, 1, 1, reach, *kernel[1:]]]
    assert_same_by_openvino(module, model, x)


def test_openvino_turns_time_as_channels_back_in_float16() -> None:
    module = over_time((3, 3, 3), (1, 1, 1), bias=True).half()
    x = torch.randn(2, 6, 4, 9, 8).half()
    model = loaded_by_openvino(exported(module, x, "onnxruntime"))
    assert openvino_kernels(model) == [[6, 1, 1, 3, 3, 3]]
    assert_same_by_openvino(module, model, x, 1e-2)


class StepsApart(nn.Module):
    """A grouped convolution whose kernels of two steps, or whose biases, have nothing in common."""

    def __init__(self, kernels: bool) -> None:
        super().__init__()
        self.conv = nn.Conv2d(24, 24, 3, padding=1, groups=6)
        if not kernels:
            band_of_one = torch.zeros(6, 4, 4, 3, 3)
            band_of_one[:, range(4), range(4)] = torch.randn(6, 1, 3, 3)
            self.conv.weight.data = band_of_one.reshape(24, 4, 3, 3)

    def forward(self, x: Tensor) -> Tensor:
        convolved: Tensor = self.conv(x.flatten(1, 2))
        return convolved.unflatten(1, (6, 4))


@pytest.mark.parametrize("kernels", [True, False])
def test_openvino_leaves_other_grouped_convolutions_alone(kernels: bool) -> None:
    module, x = StepsApart(kernels).eval(), torch.randn(2, 6, 4, 9, 8)
    model = loaded_by_openvino(exported(module, x, "onnxruntime"))
    assert openvino_kernels(model) == [[6, 4, 4, 3, 3]]
    assert_same_by_openvino(module, model, x)


def test_openvino_keeps_the_depthwise_convolution_that_it_has_a_kernel_for() -> None:
    module = nn.Conv3d(6, 6, 3, padding=1, groups=6).eval()
    assert kernels(exported(module, torch.randn(2, 6, 4, 9, 8), "openvino")) == [(6, 1, 3, 3, 3)]


def test_weights_that_the_exporter_left_in_float32_take_the_networks_type() -> None:
    module = nn.Sequential(nn.Conv3d(6, 10, 3, padding=1), trained_norm(10)).eval().to(torch.bfloat16)
    model = exported(module, torch.randn(2, 6, 4, 5, 7).to(torch.bfloat16), "openvino")
    assert operators(model) == {"Conv": 1}
    assert {tensor.data_type for tensor in model.graph.initializer} == {onnx.TensorProto.BFLOAT16}


class MovesTwice(nn.Module):
    """Moves axes, scales and shifts by constants of fewer axes, and moves axes again."""

    def __init__(self, first: tuple[int, ...], second: tuple[int, ...]) -> None:
        super().__init__()
        self.first, self.second = first, second
        self.scale = nn.Parameter(torch.randn(3, 1, 1, 1))
        self.shift = nn.Parameter(torch.randn(5, 1))

    def forward(self, x: Tensor) -> Tensor:
        return (x.permute(self.first) * self.scale + self.shift).permute(self.second).relu()


@pytest.mark.parametrize("runtime", ["onnxruntime", "openvino"])
def test_axes_that_move_around_a_normalisation_move_once(runtime: RuntimeName) -> None:
    module, x = MovesTwice((0, 4, 1, 2, 3), (0, 2, 1, 4, 3)).eval(), torch.randn(2, 4, 5, 6, 3)
    model = exported(module, x, runtime)
    assert operators(model) == {"Transpose": 1, "Mul": 1, "Add": 1, "Relu": 1}
    assert_same(module, model, x)


class Rereads(MovesTwice):
    """Needs the values in between as well."""

    def forward(self, x: Tensor) -> Tensor:
        moved = x.permute(self.first) * self.scale + self.shift
        return moved.permute(self.second).relu() + moved.mean()


def test_axes_whose_first_order_others_read_move_twice() -> None:
    module, x = Rereads((0, 4, 1, 2, 3), (0, 2, 1, 4, 3)).eval(), torch.randn(2, 4, 5, 6, 3)
    assert operators(exported(module, x, "onnxruntime"))["Transpose"] == 2

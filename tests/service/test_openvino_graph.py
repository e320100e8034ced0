"""What is changed in a graph for OpenVINO: the numbers stay, and what kept it from its faster kernels is gone."""

from collections import Counter

import numpy as np
import onnx.parser
import openvino as ov
import pytest
import torch
from numpy.typing import NDArray
from onnx import numpy_helper
from torch.nn.functional import conv3d, layer_norm

from service.runtimes.openvino_graph import suit_openvino


def read(graph: str) -> ov.Model:
    """Return the model that OpenVINO reads from a graph in ONNX's own notation, made to suit it."""
    parsed = onnx.parser.parse_model(f'<ir_version: 10, opset_import: ["" : 20]> {graph}')
    model = ov.Core().read_model(parsed.SerializeToString())
    suit_openvino(model)
    return model


def compiled(model: ov.Model) -> ov.CompiledModel:
    return ov.Core().compile_model(model, "CPU", {"INFERENCE_PRECISION_HINT": "f32"})


def kernels(model: ov.CompiledModel) -> set[str]:
    """Return the kinds of kernels that run."""
    return {node.get_rt_info()["layerType"].astype(str) for node in model.get_runtime_model().get_ops()}


def operators(model: ov.Model) -> Counter[str]:
    return Counter(node.get_type_name() for node in model.get_ops())


def noise(*shape: int) -> NDArray[np.float32]:
    return np.random.default_rng(0).standard_normal(shape, np.float32)


@pytest.mark.parametrize("plane", [(), (7,), (3, 5), (2, 3, 5)])
def test_a_norm_over_the_channels_of_any_plane_is_one_kernel(plane: tuple[int, ...]) -> None:
    shape = ", ".join(map(str, ("batch", *plane, 8)))
    model = compiled(
        read(f"""norm (float[{shape}] x) => (float[{shape}] y) <float[8] scale = {{1, 2, 3, 4, 5, 6, 7, 8}},
            float[8] bias = {{8, 7, 6, 5, 4, 3, 2, 1}}>
            {{ y = LayerNormalization <axis = -1, epsilon = 1e-3> (x, scale, bias) }}""")
    )
    assert "MVN" in kernels(model)
    assert "Reduce" not in kernels(model)
    for batch in (1, 3):
        x = 1e-2 * noise(batch, *plane, 8)
        scale, bias = torch.arange(1.0, 9.0), torch.arange(8.0, 0.0, -1.0)
        expected = layer_norm(torch.from_numpy(x), (8,), scale, bias, eps=1e-3).numpy()
        np.testing.assert_allclose(model(x)[0], expected, rtol=1e-5, atol=1e-5)


def test_a_norm_over_more_axes_stays_as_it_is() -> None:
    model = read("""norm (float[batch, 3, 5, 8] x) => (float[batch, 3, 5, 8] y)
        <float one = {1}, int64[2] size = {5, 8}>
        { scale = Expand (one, size) y = LayerNormalization <axis = -2> (x, scale) }""")
    x = noise(2, 3, 5, 8)
    expected = layer_norm(torch.from_numpy(x), (5, 8)).numpy()
    np.testing.assert_allclose(compiled(model)(x)[0], expected, rtol=1e-5, atol=1e-5)


def test_softmax_in_bfloat16_files_is_not_converted_to_float32() -> None:
    model = read("""attention (float[batch, 2, 6, 8] q, float[batch, 2, 8, 6] k, float[batch, 2, 6, 8] v)
        => (float[batch, 2, 6, 8] y)
        {
            q_narrow = Cast <to = 16> (q)
            k_narrow = Cast <to = 16> (k)
            v_narrow = Cast <to = 16> (v)
            scores = MatMul (q_narrow, k_narrow)
            wide = Cast <to = 1> (scores)
            shares = Softmax <axis = -1> (wide)
            narrow = Cast <to = 16> (shares)
            mixed = MatMul (narrow, v_narrow)
            y = Cast <to = 1> (mixed)
        }""")
    assert operators(model)["Convert"] == 4  # three inputs and the output
    q, k, v = noise(2, 2, 6, 8), noise(2, 2, 8, 6), noise(2, 2, 6, 8)
    expected = torch.from_numpy(q @ k).softmax(dim=-1).numpy() @ v
    # bfloat16 has eight bits.
    np.testing.assert_allclose(compiled(model)((q, k, v))[0], expected, rtol=0, atol=0.03)


def test_softmax_of_a_bfloat16_output_that_others_want_in_float32_stays() -> None:
    model = read("""scores (float[batch, 6] x) => (float[batch, 6] y, float[batch, 6] z)
        {
            narrow = Cast <to = 16> (x)
            wide = Cast <to = 1> (narrow)
            z = Softmax <axis = -1> (wide)
            rounded = Cast <to = 16> (z)
            y = Cast <to = 1> (rounded)
        }""")
    (softmax,) = [node for node in model.get_ops() if node.get_type_name() == "Softmax"]
    assert softmax.get_output_element_type(0) == ov.Type.f32


def convolved(kernel: NDArray[np.float32], steps: int, bias: NDArray[np.float32]) -> onnx.ModelProto:
    """Return a depthwise convolution over time and space with its time steps as channels, and what is added to it.

    Args:
        kernel: (channels, 3, 3, 3).
        steps: Of the clips, which have 8 rows and columns.
        bias: Anything that can be added to (batch, channels * steps, 8, 8).
    """
    channels = len(kernel)
    weight = np.zeros((channels, steps, steps, 3, 3), np.float32)
    for step, source in np.ndindex(steps, steps):
        if abs(source - step) <= 1:
            weight[:, step, source] = kernel[:, source - step + 1]
    constants = {
        "weight": weight.reshape(channels * steps, steps, 3, 3),
        "bias": bias,
        "folded": np.array([0, channels * steps, 8, 8]),
        "unfolded": np.array([0, channels, steps, 8, 8]),
    }
    graph = onnx.parser.parse_graph(f"""clip (float[batch, {channels}, {steps}, 8, 8] x)
        => (float[batch, {channels}, {steps}, 8, 8] y)
        {{
            maps = Reshape (x, folded)
            sums = Conv <group = {channels}, pads = [1, 1, 1, 1]> (maps, weight)
            shifted = Add (sums, bias)
            y = Reshape (shifted, unfolded)
        }}""")
    graph.initializer.extend(numpy_helper.from_array(value, name) for name, value in constants.items())
    return onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", 20)], ir_version=10)


# A number for each channel, as a convolution has; one for everything; one a pixel; one a column, of which there are as
# many as maps.
@pytest.mark.parametrize("shape", [(1, 8, 1, 1), (8, 1, 1), (), (1, 8, 8, 8), (8,)])
def test_whatever_is_added_to_a_convolution_over_time_is_added(shape: tuple[int, ...]) -> None:
    steps, kernel = 2, noise(4, 3, 3, 3)
    bias = np.array(noise(*shape))
    if bias.size == 4 * steps:
        bias = bias.reshape(4, steps)[:, :1].repeat(steps, axis=1).reshape(shape)
    model = ov.Core().read_model(convolved(kernel, steps, bias).SerializeToString())
    suit_openvino(model)
    (convolution,) = [node for node in model.get_ops() if node.get_type_name() == "GroupConvolution"]
    assert len(convolution.get_input_shape(1)) == (6 if shape[-3:] == (8, 1, 1) else 5), "over time, or space alone"
    x = noise(3, 4, steps, 8, 8)
    sums = conv3d(torch.from_numpy(x), torch.from_numpy(kernel)[:, None], padding=1, groups=4).numpy()
    expected = (sums.reshape(3, 8, 8, 8) + bias).reshape(x.shape)
    np.testing.assert_allclose(compiled(model)(x)[0], expected, rtol=0, atol=1e-4)

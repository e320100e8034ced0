"""Model files of other people's making, run by every runtime of the CPU: what counts is how things are called."""

from pathlib import Path

import numpy as np
import onnx
import onnx.parser
import pytest

from service.errors import RuntimeLoadError
from service.runtimes.kinds import CPU_KINDS
from tests.segmenter import COLOURS, NAME, write_segmenter

FRAMES = "uint8[batch, 2, 2, 3] frames"
# Of a picture: the least and the greatest of its values.
EXTREMES = """
    pixels = Cast <to = 1> (frames)
    least = ReduceMin <keepdims = 0> (pixels, axes)
    greatest = ReduceMax <keepdims = 0> (pixels, axes)
    columns_of_least = Unsqueeze (least, last)
    columns_of_greatest = Unsqueeze (greatest, last)
    logits = Concat <axis = 1> (columns_of_least, columns_of_greatest)
    probabilities = Softmax <axis = 1> (logits)
"""


def write(file: Path, inputs: str, outputs: str) -> Path:
    """Write a file with those inputs and outputs, of which there may be `logits` and `probabilities`."""
    model = onnx.parser.parse_model(
        f'<ir_version: 10, opset_import: ["" : 20]> extremes ({inputs}) => ({outputs}) '
        f"<int64[3] axes = {{1, 2, 3}}, int64[1] last = {{1}}> {{ {EXTREMES} }}"
    )
    onnx.save(model, file)
    return file


@pytest.mark.parametrize("name", CPU_KINDS)
@pytest.mark.parametrize("order", [("probabilities", "logits"), ("logits", "probabilities")])
def test_logits_are_what_is_called_so(tmp_path: Path, name: str, order: tuple[str, ...]) -> None:
    file = write(tmp_path / "model.onnx", FRAMES, ", ".join(f"float[batch, 2] {output}" for output in order))
    frames = np.arange(3 * 12, dtype=np.uint8).reshape(3, 2, 2, 3)
    expected = [[0, 11], [12, 23], [24, 35]]
    assert np.array_equal(CPU_KINDS[name].open(file, "fp32", 1).run(frames, "logits"), expected)


@pytest.mark.parametrize("name", CPU_KINDS)
def test_mask_is_what_is_called_so(tmp_path: Path, name: str) -> None:
    write_segmenter(tmp_path)
    file = tmp_path / NAME / "1/model.onnx"
    model = onnx.load(file)
    # Inner values, now outputs, before and between those that were there.
    extra = [onnx.helper.make_empty_tensor_value_info(inner) for inner in ("full", "classes")]
    outputs = [extra[0], model.graph.output[1], extra[1], model.graph.output[0]]
    del model.graph.output[:]
    model.graph.output.extend(outputs)
    onnx.save(model, file)
    classes = np.random.default_rng(0).integers(0, 4, (2, 64, 96))
    runtime, frames = CPU_KINDS[name].open(file, "fp32", 1), COLOURS[classes]
    assert np.array_equal(runtime.run(frames, "mask"), classes)
    assert runtime.run(frames, "logits").shape == (2, 4, 16, 24)


def test_openvino_says_which_names_a_file_has_instead(tmp_path: Path) -> None:
    openvino = CPU_KINDS["openvino"]
    file = write(tmp_path / "model.onnx", FRAMES, "float[batch, 2] probabilities")
    with pytest.raises(RuntimeLoadError, match=rf"{file}: it has no output called logits, only probabilities"):
        openvino.open(file, "fp32", 1)
    # It would take zeros for what it is not given.
    file = write(tmp_path / "model.onnx", f"{FRAMES}, float[batch] scale", "float[batch, 2] logits")
    with pytest.raises(RuntimeLoadError, match="its input must be called frames, and it has frames, scale"):
        openvino.open(file, "fp32", 1)

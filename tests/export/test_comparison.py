"""What is measured of a written file: by a graph of one cast, and answers that are wrong on purpose."""

from pathlib import Path

import numpy as np
import onnx
import pytest
from numpy.typing import NDArray
from onnx import TensorProto, helper

from export.errors import VerificationError
from export.verification import Case, measure_on_clips, verify

VIEWS = np.random.default_rng(0).integers(0, 256, (200, 4), np.uint8)


@pytest.fixture
def model(tmp_path: Path) -> Path:
    """A file whose logits are its input."""
    graph = helper.make_graph(
        [helper.make_node("Cast", ["frames"], ["logits"], to=TensorProto.FLOAT)],
        "cast",
        [helper.make_tensor_value_info("frames", TensorProto.UINT8, ["batch", 4])],
        [helper.make_tensor_value_info("logits", TensorProto.FLOAT, ["batch", 4])],
    )
    file = tmp_path / "model.onnx"
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10), file)
    return file


def answers(wrong: int) -> NDArray[np.float32]:
    """Return what torch would say, the first `wrong` of them spread twice as far as the file's."""
    logits = VIEWS.astype(np.float32)
    mean = logits.mean(axis=1, keepdims=True)
    logits[:wrong] += (logits - mean)[:wrong]
    return logits


@pytest.mark.parametrize("wrong", [0, 1])
def test_a_view_in_a_hundred_may_jump(model: Path, wrong: int) -> None:
    figures = measure_on_clips(model, "fp16", [Case(VIEWS, {"logits": answers(wrong)})])
    assert (figures.clips, figures.relative_error, figures.top1_agreement) == (200, 0, 1)


def test_two_views_in_a_hundred_may_not(model: Path) -> None:
    with pytest.raises(VerificationError, match=r"on 200 decoded clips by a relative 5\.00e-01"):
        measure_on_clips(model, "fp16", [Case(VIEWS, {"logits": answers(4)})])


def test_of_few_views_none_may_jump(model: Path) -> None:
    with pytest.raises(VerificationError, match=r"on 99 decoded clips by a relative 5\.00e-01"):
        measure_on_clips(model, "fp16", [Case(VIEWS[:99], {"logits": answers(1)[:99]})])


def test_rounding_at_a_tie_counts_as_elsewhere(model: Path) -> None:
    views = np.array([[10, 30, 10, 30], [90, 10, 90, 10], [50, 50, 50, 51]], np.uint8)
    logits = views.astype(np.float32)
    logits[2, 3] += 0.1
    # How far the three are from their means: 20, 80 and 0.95.
    typical = ((20**2 + 80**2 + 0.75 * 1.1**2) / 3) ** 0.5
    figures = measure_on_clips(model, "fp16", [Case(views, {"logits": logits})])
    assert figures.relative_error == pytest.approx(0.1 / typical, rel=1e-4)


@pytest.fixture
def flattener(tmp_path: Path) -> Path:
    """A file whose logits are its pictures, flattened."""
    graph = helper.make_graph(
        [
            helper.make_node("Flatten", ["frames"], ["flat"]),
            helper.make_node("Cast", ["flat"], ["logits"], to=TensorProto.FLOAT),
        ],
        "flatten",
        [helper.make_tensor_value_info("frames", TensorProto.UINT8, ["batch", 2, 2, 3])],
        [helper.make_tensor_value_info("logits", TensorProto.FLOAT, ["batch", 12])],
    )
    file = tmp_path / "model.onnx"
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10), file)
    return file


def pictures(count: int, wrong: int) -> Case:
    """Return pictures, and what torch would say; the last `wrong` of them spread twice as far as the file's logits."""
    views = np.random.default_rng(1).integers(0, 256, (count, 2, 2, 3), np.uint8)
    logits = views.reshape(count, 12).astype(np.float32)
    logits[count - wrong :] = 2 * logits[count - wrong :] - logits[count - wrong :].mean(axis=1, keepdims=True)
    return Case(views, {"logits": logits})


def test_few_made_up_views_may_jump_in_half_precision_alone(flattener: Path) -> None:
    # What the worst view differs by is told all the same.
    assert verify(flattener, "fp16", [pictures(8, wrong=3)], 8).relative_error == pytest.approx(0.5)
    with pytest.raises(VerificationError, match=r"differs from torch by a relative 5\.00e-01; the limit is 0\.0001$"):
        verify(flattener, "fp32", [pictures(8, wrong=1)], 8)


def test_most_of_them_may_not(flattener: Path) -> None:
    told = r"differs from torch in the median of made-up views by a relative 4\.\d\de-01; the limit is 0\.01$"
    # Those of another case, many and right, do not make up for it.
    with pytest.raises(VerificationError, match=told):
        verify(flattener, "fp16", [pictures(100, wrong=0), pictures(8, wrong=5)], 8)


def test_no_row_of_the_largest_batch_may_be_wrong(tmp_path: Path) -> None:
    nodes = [
        helper.make_node("Flatten", ["frames"], ["flat"]),
        helper.make_node("Cast", ["flat"], ["right"], to=TensorProto.FLOAT),
        helper.make_node("Shape", ["frames"], ["shape"], start=0, end=1),
        helper.make_node("Squeeze", ["shape"], ["batch"]),
        helper.make_node("Range", ["zero", "batch", "one"], ["row"]),
        helper.make_node("Greater", ["row", "last right"], ["is wrong"]),
        helper.make_node("Cast", ["is wrong"], ["wrong"], to=TensorProto.FLOAT),
        helper.make_node("Unsqueeze", ["wrong", "axis"], ["of all"]),
        helper.make_node("Add", ["right", "of all"], ["logits"]),
    ]
    numbers = {"zero": 0, "one": 1, "last right": 254}
    constants = [helper.make_tensor(name, TensorProto.INT64, [], [number]) for name, number in numbers.items()]
    graph = helper.make_graph(
        nodes,
        "wrong in row 255",
        [helper.make_tensor_value_info("frames", TensorProto.UINT8, ["batch", 2, 2, 3])],
        [helper.make_tensor_value_info("logits", TensorProto.FLOAT, ["batch", 12])],
        [*constants, helper.make_tensor("axis", TensorProto.INT64, [1], [1])],
    )
    file = tmp_path / "model.onnx"
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10), file)
    views = VIEWS[:24].reshape(8, 2, 2, 3)
    case = Case(views, {"logits": views.reshape(8, 12).astype(np.float32)})
    assert verify(file, "fp32", [case], 255).relative_error == 0
    with pytest.raises(VerificationError, match="differs from torch by a relative"):
        verify(file, "fp32", [case], 256)

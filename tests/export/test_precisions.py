"""fp16, bf16 and int8 files of the trained demo network, as `clipserve export --precision` writes them."""

import json
import re
import shutil
import subprocess
import sys
from functools import partial
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime as ort
import pytest
import torch
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

from demo.labelled import write_clips
from export.errors import ExportError
from export.graph import served_network
from export.half_precision import converted
from export.quantization import quantise
from export.verification import torch_outputs
from models import create_model, load_checkpoint
from service.errors import ManifestError
from service.manifest import Artefact, PrecisionName, read_artefact
from service.repository.served import check_parity
from service.runtimes.kinds import CPU_KINDS
from service.runtimes.openvino_cpu import has_bfloat16
from service.runtimes.selection import RuntimeChooser

# The first test waits for four exports with their verifications.
pytestmark = pytest.mark.timeout(900)

NAME = "uniformer_tiny_shapes"
ROOT = Path(__file__).parents[2]
WEIGHTS = ROOT / "demo/weights/uniformer_tiny_shapes.safetensors"
CLIPS = 22


def export(*arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "service.cli", "export", NAME, "--checkpoint", str(WEIGHTS), *arguments]
    return subprocess.run(command, capture_output=True, text=True, cwd=ROOT, check=False)


@pytest.fixture(scope="module")
def clips(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("clips")
    write_clips(folder, CLIPS, seed=99)
    return folder


@pytest.fixture(scope="module")
def artefact(clips: Path, tmp_path_factory: pytest.TempPathFactory) -> Artefact:
    repository = tmp_path_factory.mktemp("precisions") / "repository"
    arguments = ("--precision", "fp32,fp16,bf16,int8", "--calibration", str(clips), "--max-batch-size", "3")
    arguments += ("--runtime", "onnx,tensorrt_rtx")
    run = export("--out", str(repository), *arguments)
    assert run.returncode == 0, run.stderr
    assert [row.split()[1] for row in run.stdout.splitlines()[1:-1]] == ["fp32", "fp16", "bf16", "int8"]
    assert run.stdout.count(f" {CLIPS // 2} clips ") == 4
    return read_artefact(repository / NAME / "1")


@pytest.fixture(scope="module")
def views() -> NDArray[np.uint8]:
    """Views of other clips, decoded by the generator itself: no codec, no server code."""
    from demo.shapes import LABELS, render_clip

    frames = [render_clip(label, np.random.default_rng(5)).frames for label in LABELS[:4]]
    chosen = [clip[np.linspace(0, len(clip) - 1, 8).astype(int)] for clip in frames]
    return np.stack([clip[:, :96, :96] for clip in chosen])


@pytest.fixture(scope="module")
def expected(views: NDArray[np.uint8]) -> NDArray[np.float32]:
    network = create_model(NAME)
    load_checkpoint(network, WEIGHTS)
    return np.asarray(torch_outputs(served_network(network), views)["logits"], np.float32)


def relative_error(actual: NDArray[Any], wanted: NDArray[Any]) -> float:
    spread = np.linalg.norm(wanted - wanted.mean(axis=1, keepdims=True), axis=1)
    return float((np.linalg.norm(actual - wanted, axis=1) / spread).max())


def graph(artefact: Artefact, precision: PrecisionName) -> onnx.GraphProto:
    return onnx.shape_inference.infer_shapes(onnx.load(artefact.model_file(precision))).graph


# Here, and by the runtimes that verify them.
WIDENED = {"fp16"} if has_bfloat16() else {"fp16", "bf16"}


@pytest.mark.parametrize("precision", ["fp32", "fp16", "bf16", "int8"])
def test_manifest_says_what_each_file_was_measured_at(artefact: Artefact, precision: PrecisionName) -> None:
    entry = artefact.manifest.precisions[precision]
    assert entry.file == ("model.onnx" if precision == "fp32" else f"model.{precision}.onnx")
    assert entry.file in artefact.manifest.files
    assert entry.runtime == ("openvino" if precision in ("bf16", "int8") else "onnxruntime")
    assert entry.verification.batch_sizes == (1, 2, 3)
    assert entry.verification.arithmetic == ("fp32" if precision in WIDENED else precision)
    assert entry.on_clips is not None
    assert entry.on_clips.clips == CLIPS // 2
    assert entry.on_clips.top1_agreement >= 0.95
    # The network was trained on such clips: all but a few in a thousand are right.
    assert entry.on_clips.torch_accuracy == 1
    assert entry.on_clips.accuracy is not None
    assert entry.on_clips.accuracy >= 0.9
    assert entry.engines == {"tensorrt_rtx": version("tensorrt-rtx")}
    assert entry.calibration_clips == (CLIPS // 2 if precision == "int8" else 0)


@pytest.mark.parametrize("precision", ["fp32", "fp16", "bf16", "int8"])
def test_file_is_valid_by_the_types_that_its_operators_take(artefact: Artefact, precision: PrecisionName) -> None:
    onnx.checker.check_model(onnx.load(artefact.model_file(precision)), full_check=True)


@pytest.mark.parametrize(
    ("runtime", "precision", "least", "most"),
    [
        ("onnxruntime", "fp16", 1e-6, 1e-2),
        ("openvino", "fp16", 1e-6, 1e-2),
        ("openvino", "bf16", 1e-5, 1e-1),
        ("onnxruntime", "int8", 1e-4, 0.5),
        ("openvino", "int8", 1e-4, 0.5),
    ],
)
def test_file_answers_as_torch_does(
    artefact: Artefact,
    views: NDArray[np.uint8],
    expected: NDArray[np.float32],
    runtime: str,
    precision: PrecisionName,
    least: float,
    most: float,
) -> None:
    if precision == "bf16" and not has_bfloat16():
        pytest.skip("this CPU has no bfloat16 instructions; tests/service/test_runtimes.py sees the file refused")
    logits = CPU_KINDS[runtime].open(artefact.model_file(precision), precision, 1).run(views, "logits")
    assert logits.dtype == np.float32
    assert least < relative_error(logits, expected) < most


@pytest.mark.parametrize(("precision", "half"), [("fp16", TensorProto.FLOAT16), ("bf16", TensorProto.BFLOAT16)])
def test_half_precision_leaves_normalisation_softmax_and_logits_in_float32(
    artefact: Artefact, precision: PrecisionName, half: int
) -> None:
    inferred = graph(artefact, precision)
    types = {value.name: value.type.tensor_type.elem_type for value in (*inferred.value_info, *inferred.output)}
    types |= {weight.name: weight.data_type for weight in inferred.initializer}
    seen = {"LayerNormalization": 0, "Softmax": 0, "Conv": 0, "MatMul": 0, "Gemm": 0}
    for node in inferred.node:
        if node.op_type in seen:
            seen[node.op_type] += 1
            sensitive = node.op_type in ("LayerNormalization", "Softmax") or "logits" in node.output
            assert types[node.input[0]] == (TensorProto.FLOAT if sensitive else half), node.name
    assert all(seen.values()), seen
    # Rounding them afterwards would not bring back what was rounded away before.
    assert next(node.op_type for node in inferred.node if "logits" in node.output) == "Gemm"


def test_int8_quantises_every_layer_but_those_that_it_names(artefact: Artefact) -> None:
    entry, inferred = artefact.manifest.precisions["int8"], graph(artefact, "int8")
    producers = {output: node for node in inferred.node for output in node.output}
    layers = [node for node in inferred.node if node.op_type in ("Conv", "MatMul", "Gemm")]
    left = {
        node.name
        for node in layers
        if not all(producers[name].op_type == "DequantizeLinear" for name in node.input[:2] if name in producers)
    }
    assert left == set(entry.float32_layers)
    weights = {weight.name: weight for weight in inferred.initializer}
    for node in inferred.node:
        if node.op_type == "DequantizeLinear":
            assert not np.any(numpy_helper.to_array(weights[node.input[2]])), "not symmetric"
            if node.input[0] in weights:
                assert weights[node.input[0]].data_type == TensorProto.INT8


def test_served_precision_is_the_one_that_was_asked_for(artefact: Artefact, tmp_path: Path) -> None:
    check = partial(check_parity, artefact.manifest)
    runtime = RuntimeChooser("openvino", "int8", 1, tmp_path).load(artefact, [], check)
    assert (runtime.name, runtime.precision) == ("openvino-cpu", "int8")


def test_every_file_is_checked_when_the_artefact_is_read(artefact: Artefact, tmp_path: Path) -> None:
    folder = tmp_path / NAME / "1"
    shutil.copytree(artefact.folder, folder)
    with (folder / "model.int8.onnx").open("ab") as file:
        file.write(b"\0")
    with pytest.raises(ManifestError, match=r"model.int8.onnx is not the file that was exported"):
        read_artefact(folder)


def test_int8_without_clips_is_refused(tmp_path: Path) -> None:
    run = export("--precision", "int8", "--out", str(tmp_path / "repository"))
    assert run.returncode == 1
    assert "int8 needs real clips" in run.stderr
    assert not (tmp_path / "repository").exists()


def test_unknown_precision_is_refused(tmp_path: Path) -> None:
    run = export("--precision", "fp32,fp8", "--out", str(tmp_path))
    assert run.returncode == 2
    assert "'fp8' is none of fp32, fp16, bf16, int8" in run.stderr


@pytest.mark.skipif(find_spec("tensorrt") is not None, reason="TensorRT is installed")
def test_builder_that_is_not_installed_is_named(tmp_path: Path) -> None:
    run = export("--runtime", "tensorrt", "--out", str(tmp_path / "repository"))
    assert run.returncode == 1
    assert "tensorrt is not installed: pip install 'clipserve[tensorrt]'" in run.stderr


def test_file_that_is_no_medium_is_named(clips: Path, tmp_path: Path) -> None:
    folder = tmp_path / "clips"
    folder.mkdir()
    for number in ("00000", "00001"):
        shutil.copy(clips / number, folder)
    (folder / "zz.mp4").write_bytes(b"no clip")
    run = export("--calibration", str(folder), "--out", str(tmp_path / "repository"))
    assert run.returncode == 1
    assert "zz.mp4" in run.stderr
    assert not list((tmp_path / "repository").glob("*"))


def test_weight_that_does_not_fit_is_named() -> None:
    network = create_model(NAME)
    with torch.no_grad():
        network.get_parameter("blocks3.0.attn.proj.weight")[0, 0] = 1e6
    with pytest.raises(ExportError, match=r"blocks3.0.attn.proj.weight has values that torch.float16 cannot hold"):
        converted(network, torch.float16)
    assert converted(network, torch.bfloat16).get_parameter("blocks3.0.attn.proj.weight").dtype == torch.bfloat16


def model_of(
    nodes: list[onnx.NodeProto], view: list[int | str], logits: list[int | str], **weights: Any
) -> onnx.ModelProto:
    body = helper.make_graph(
        nodes,
        "g",
        [helper.make_tensor_value_info("frames", TensorProto.UINT8, ["batch", *view])],
        [helper.make_tensor_value_info("logits", TensorProto.FLOAT, ["batch", *logits])],
        [numpy_helper.from_array(value, name) for name, value in weights.items()],
    )
    return helper.make_model(body, opset_imports=[helper.make_opsetid("", 20)], ir_version=10)


def two_layers(file: Path) -> tuple[NDArray[np.uint8], NDArray[np.float32]]:
    """Write a model of two layers, of which the second suffers from int8; return views, and their logits.

    One feature is ten thousand times the others, and hardly counts: a common scale leaves nothing of the others.
    """
    rng = np.random.default_rng(0)
    first, second = rng.normal(size=(12, 16)).astype(np.float32), rng.normal(size=(16, 5)).astype(np.float32)
    first[:, 0] *= 1e4
    second[0] *= 1e-5
    nodes = [
        helper.make_node("Cast", ["frames"], ["floats"], "cast", to=TensorProto.FLOAT),
        helper.make_node("Reshape", ["floats", "shape"], ["flat"], "reshape"),
        helper.make_node("MatMul", ["flat", "w1"], ["features"], "first"),
        helper.make_node("MatMul", ["features", "w2"], ["logits"], "second"),
    ]
    onnx.save(model_of(nodes, [2, 2, 3], [5], w1=first, w2=second, shape=np.array([-1, 12])), file)
    frames = rng.integers(0, 256, (6, 2, 2, 3), np.uint8)
    return frames, frames.reshape(6, 12).astype(np.float32) @ first @ second


def test_layer_that_int8_harms_is_left_in_float32(tmp_path: Path) -> None:
    model, output = tmp_path / "model.onnx", tmp_path / "model.int8.onnx"
    frames, wanted = two_layers(model)
    steps: list[str] = []
    assert quantise(model, output, list(frames), steps.append) == ["second"]
    assert steps[0] == "taking ranges from 6 views"
    assert "which of 2 layers suffer" in steps[1]
    assert re.fullmatch(r"1 of 2 layers stay in float32 \(relative error 0\.0[0-3]\d\)", steps[2])
    (logits,) = ort.InferenceSession(output, providers=["CPUExecutionProvider"]).run(["logits"], {"frames": frames})
    assert relative_error(logits, wanted) < 0.1


def layers_in_a_row(file: Path, count: int) -> NDArray[np.uint8]:
    """Write a model of so many layers, and return views."""
    rng = np.random.default_rng(0)
    weights = {f"w{n}": rng.normal(size=(12, 12)).astype(np.float32) for n in range(count)}
    outputs = [*(f"x{n}" for n in range(1, count)), "logits"]
    nodes = [
        helper.make_node("Cast", ["frames"], ["floats"], "cast", to=TensorProto.FLOAT),
        helper.make_node("Reshape", ["floats", "shape"], ["x0"], "reshape"),
        *(helper.make_node("MatMul", [f"x{n}", f"w{n}"], [outputs[n]], f"layer{n}") for n in range(count)),
    ]
    onnx.save(model_of(nodes, [2, 2, 3], [12], **weights, shape=np.array([-1, 12])), file)
    return rng.integers(0, 256, (6, 2, 2, 3), np.uint8)


@pytest.mark.parametrize(("layers", "left"), [(1, 0), (2, 1), (3, 1), (7, 3), (8, 4)])
def test_int8_that_misses_its_aim_leaves_half_of_the_layers_and_says_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, layers: int, left: int
) -> None:
    monkeypatch.setattr("export.quantization.TARGET_ERROR", 0.0)
    model, output = tmp_path / "model.onnx", tmp_path / "model.int8.onnx"
    views, steps = list(layers_in_a_row(model, layers)), list[str]()
    names = quantise(model, output, views, steps.append)
    assert len(set(names)) == left
    said = rf"{left} of {layers} layers stay in float32 \(relative error 0\.\d+, above the aim of 0\.0\)"
    assert re.fullmatch(said, steps[-1])
    quantised = [node for node in onnx.load(output).graph.node if node.op_type == "QuantizeLinear"]
    assert len(quantised) == layers - left


def test_int8_is_judged_by_pictures_of_different_sizes(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    nodes = [
        helper.make_node("Cast", ["frames"], ["floats"], "cast", to=TensorProto.FLOAT),
        helper.make_node("MatMul", ["floats", "w"], ["logits"], "only"),
    ]
    model, output = tmp_path / "model.onnx", tmp_path / "model.int8.onnx"
    weights = rng.normal(size=(3, 5)).astype(np.float32)
    onnx.save(model_of(nodes, ["height", "width", 3], ["height", "width", 5], w=weights), model)
    views = [rng.integers(0, 256, (*size, 3), np.uint8) for size in ((4, 6), (6, 4), (5, 5))]
    assert quantise(model, output, views, lambda _: None) == []
    assert "QuantizeLinear" in {node.op_type for node in onnx.load(output).graph.node}


def test_int8_is_judged_by_views_of_every_kind(tmp_path: Path) -> None:
    """The last ones, such as those of the last class, are so dark that a step of int8 is more than all of them has."""
    model, output = tmp_path / "model.onnx", tmp_path / "model.int8.onnx"
    layers_in_a_row(model, 1)
    rng = np.random.default_rng(0)
    bright, dark = rng.integers(0, 256, (80, 2, 2, 3), np.uint8), rng.integers(0, 2, (20, 2, 2, 3), np.uint8)
    dark[:, 0, 0, 0] = 1  # none is black
    steps: list[str] = []
    quantise(model, output, [*bright, *dark], steps.append)
    assert len(steps) > 1, "nothing is said to suffer"
    found = re.search(r"suffer from int8 \(relative error (\d\.\d+) with all\)", steps[1])
    assert found
    # A fifth of the views is off by about all that there is: a step is two.
    assert 0.5 < float(found[1]) / (0.2**0.5) < 1.5


def test_labels_file_names_every_clip(clips: Path) -> None:
    assert len(json.loads((clips / "labels.json").read_text())) == CLIPS == len(list(clips.iterdir())) - 1

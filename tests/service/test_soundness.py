"""Artefacts that open but cannot be served as their manifest says: a load and `clipserve doctor` find out alike."""

import json
import re
from collections.abc import Callable
from pathlib import Path

import httpx
import onnx
import pytest

from tests.classifier import CLASSES, write_classifier, write_manifest
from tests.command import clipserve, finding
from tests.server import serving


def fix_batch_axis(folder: Path) -> None:
    """Let the model file of an artefact take single pictures alone."""
    model = onnx.load(folder / "model.onnx")
    for tensor in (*model.graph.input, *model.graph.output):
        tensor.type.tensor_type.shape.dim[0].dim_value = 1
    onnx.save(model, folder / "model.onnx")
    write_manifest(folder)


def contradict_torch(folder: Path) -> None:
    """Let the manifest of an artefact say other logits than its file computes."""
    write_manifest(folder, parity=[float(number) for number in range(CLASSES)])


def forget_the_batch_axis(folder: Path) -> None:
    """Let the model file of an artefact sum up its batch."""
    model = onnx.load(folder / "model.onnx")
    (last,) = (node for node in model.graph.node if "logits" in node.output)
    last.output[0] = "rows"
    model.graph.node.append(onnx.helper.make_node("ReduceSum", ["rows", "first"], ["logits"]))
    model.graph.initializer.append(onnx.helper.make_tensor("first", onnx.TensorProto.INT64, [1], [0]))
    onnx.save(model, folder / "model.onnx")
    write_manifest(folder)


UNSOUND = [
    (
        fix_batch_axis,
        r"onnxruntime-cpu cannot run a batch of [24] of m/1: .*; the batch axis of a model file must be open",
    ),
    (contradict_torch, "m/1 in fp32 on onnxruntime-cpu is not the network that was exported"),
    (
        forget_the_batch_axis,
        r"m answered a batch of [24] with logits of shape \(1, 16\), its manifest says \([24], 16\)",
    ),
]


@pytest.mark.parametrize(("break_model", "told"), UNSOUND, ids=lambda value: getattr(value, "__name__", ""))
def test_what_stops_a_start_is_found_by_doctor(tmp_path: Path, break_model: Callable[[Path], None], told: str) -> None:
    break_model(write_classifier(tmp_path, "m", 1))
    ended = clipserve("serve", "--repository", str(tmp_path), "--port", "0")
    assert ended.returncode == 1
    assert re.search(f"cannot start: m/1 cannot be served: .*{told}", ended.stderr)
    # It is the file's fault, not the server's.
    assert "Traceback" not in ended.stderr
    run = clipserve("doctor", "--repository", str(tmp_path))
    assert run.returncode == 1
    assert re.search(told, finding(run, "m/1"))


def test_auto_serves_on_the_runtime_that_can_and_doctor_says_which_cannot(tmp_path: Path) -> None:
    """OpenVINO gives a graph another batch axis where ONNX Runtime does not."""
    fix_batch_axis(write_classifier(tmp_path / "models", "m", 1))
    with serving(tmp_path, repository=tmp_path / "models", runtime="auto", cache=tmp_path / "cache") as server:
        (model,) = httpx.get(f"{server.url}/v1/models").json()["models"]
        assert model["runtime"] == "openvino-cpu"
        assert "onnxruntime is passed over: onnxruntime-cpu cannot run a batch of" in server.log.read_text()
    run = clipserve("doctor", "--repository", str(tmp_path / "models"), "--runtime", "auto")
    assert run.returncode == 0
    assert finding(run, "m/1").endswith("fp32 runs on openvino")
    assert re.search("^  m/1 +onnxruntime is passed over: .* cannot run a batch of", run.stdout, re.MULTILINE)
    assert "The server would start, but see what is said above of m/1." in run.stdout


def test_doctor_complains_when_no_runtime_is_left(tmp_path: Path) -> None:
    folder = write_classifier(tmp_path, "m", 1)
    (precision,) = json.loads((folder / "manifest.json").read_text())["precisions"].values()
    write_manifest(folder, precisions={"bf16": precision})
    run = clipserve(
        "doctor", "--repository", str(tmp_path), "--runtime", "auto", "--precision", "bf16", without="openvino"
    )
    assert run.returncode == 1
    assert "openvino" in finding(run, "m/1")


def test_doctor_opens_what_a_server_would(tmp_path: Path) -> None:
    for number in (1, 2, 3):
        write_classifier(tmp_path, "m", number)
    (tmp_path / "m/1/model.onnx").unlink()

    def examined(*options: str) -> tuple[int, list[str]]:
        run = clipserve("doctor", "--repository", str(tmp_path), *options)
        return run.returncode, sorted(set(re.findall(r"^  (m/\d) ", run.stdout, re.MULTILINE)))

    assert examined() == (0, ["m/3"])
    assert examined("--versions", "[1, 2]") == (1, ["m/1", "m/2"])
    assert examined("--versions", "all") == (1, ["m/1", "m/2", "m/3"])
    assert examined("--models", '{"m": {"default_version": 2}}') == (0, ["m/2", "m/3"])
    (tmp_path / "m/3/model.onnx").unlink()
    assert examined() == (1, ["m/2", "m/3"])

"""`clipserve export` as a user runs it, and what it leaves behind."""

import subprocess
import sys
from pathlib import Path
from time import perf_counter

import numpy as np
import onnx
import onnxruntime as ort
import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor, nn

from export.artefact import make_request
from export.errors import ExportError, VerificationError
from export.graph import ServedNetwork, export_onnx, input_shape, served_network
from export.resume import finished
from export.verification import Case, torch_cases, torch_outputs, verification_inputs, verify
from models import create_model, load_checkpoint, load_labels, model_entry
from service.manifest import Artefact, read_artefact
from service.manifest.parity import parity_view

NAME = "uniformer_tiny_shapes"
ROOT = Path(__file__).parents[2]


def export_command(*arguments: str) -> list[str]:
    return [sys.executable, "-m", "service.cli", "export", *arguments]


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Random weights, as somebody's own checkpoint."""
    torch.manual_seed(5)
    file = tmp_path_factory.mktemp("weights") / "own.safetensors"
    save_file(create_model(NAME).state_dict(), file)
    return file


@pytest.fixture(scope="module")
def artefact(checkpoint: Path, tmp_path_factory: pytest.TempPathFactory) -> Artefact:
    repository = tmp_path_factory.mktemp("export") / "repository"
    arguments = ("--checkpoint", str(checkpoint), "--out", str(repository), "--max-batch-size", "4")
    began = perf_counter()
    run = subprocess.run(export_command(NAME, *arguments), capture_output=True, text=True, cwd=ROOT, check=False)
    took = perf_counter() - began
    assert run.returncode == 0, run.stderr
    header, row, total = run.stdout.splitlines()
    assert header.split()[:3] == ["model", "precision", "MB"]
    assert row.split()[:2] == [f"{NAME}/1", "fp32"]
    # All but the start and the end of Python.
    assert took / 2 < int(total.partition(" seconds in all;")[0]) < took + 1
    assert [entry.name for entry in repository.parent.iterdir()] == ["repository"]
    return read_artefact(repository / NAME / "1")


def test_manifest_says_what_was_exported(artefact: Artefact) -> None:
    manifest = artefact.manifest
    assert manifest.inputs[0].shape == ("batch", 8, 96, 96, 3)
    assert manifest.outputs[0].shape == ("batch", 11)
    assert artefact.labels == load_labels("shapes")
    assert manifest.checkpoint is not None
    assert manifest.checkpoint.file == "own.safetensors"
    verification = manifest.precisions["fp32"].verification
    assert manifest.max_batch_size == 4
    assert verification.batch_sizes == (1, 2, 3, 4)
    assert verification.relative_error < 1e-4
    assert verification.top1_agreement == 1
    assert {"torch", "onnx", "onnxruntime"} <= set(manifest.tools)


def test_graph_takes_bytes_and_only_its_batch_is_dynamic(artefact: Artefact) -> None:
    model = onnx.load(artefact.model_file("fp32"))
    onnx.checker.check_model(model, full_check=True)
    (frames,) = model.graph.input
    assert frames.name == "frames"
    assert frames.type.tensor_type.elem_type == onnx.TensorProto.UINT8
    axes = frames.type.tensor_type.shape.dim
    assert axes[0].dim_param
    assert [axis.dim_value for axis in axes[1:]] == [8, 96, 96, 3]
    # Nothing of the machine that exported travels along.
    assert str(ROOT).encode() not in artefact.model_file("fp32").read_bytes()
    (consumer,) = (node for node in model.graph.node if "frames" in node.input)
    assert consumer.op_type == "Cast"
    assert [entry.version for entry in model.opset_import if entry.domain == ""] == [20]


def test_file_computes_what_torch_computes_on_normalised_input(artefact: Artefact, checkpoint: Path) -> None:
    network = create_model(NAME)
    load_checkpoint(network, checkpoint)
    frames = np.random.default_rng(1).integers(0, 256, (3, 8, 96, 96, 3), dtype=np.uint8)
    # The preprocessing of the video papers, written out.
    x = (torch.from_numpy(frames).float() / 255 - 0.45) / 0.225
    with torch.inference_mode():
        expected = network(x.permute(0, 4, 1, 2, 3)).numpy()
    session = ort.InferenceSession(artefact.model_file("fp32"), providers=["CPUExecutionProvider"])
    (actual,) = session.run(["logits"], {"frames": frames})
    assert np.linalg.norm(actual - expected) / np.linalg.norm(expected - expected.mean()) < 1e-4


def test_manifest_carries_what_torch_says_of_the_parity_view(artefact: Artefact, checkpoint: Path) -> None:
    # By the formula in the words of service.manifest.parity: slope of columns, rows, channels and time, and five high
    # bits of a multiple of 2654435761 as grain.
    view, (frames, height, width, channels) = parity_view(input_shape(NAME)), input_shape(NAME)
    for place in ((0, 0, 0, 0), (0, 0, 0, 1), (3, 50, 95, 2), (7, 95, 0, 1)):
        time, row, column, channel = place
        number = ((time * height + row) * width + column) * channels + channel
        grain = (number * 2654435761 % 2**32) >> 27
        slope = 40 + 120 * column // width + 60 * row // height + 10 * channel + 3 * time
        assert view[place] == min(255, slope + grain)
    assert view.shape == (frames, height, width, channels)
    network = create_model(NAME)
    load_checkpoint(network, checkpoint)
    pixels = torch.from_numpy(view).float().permute(3, 0, 1, 2)[None] / 255
    with torch.inference_mode():
        expected = network((pixels - 0.45) / 0.225)[0]
    assert artefact.manifest.parity == pytest.approx(expected.tolist(), abs=1e-4)


def test_another_export_becomes_another_version(artefact: Artefact, checkpoint: Path) -> None:
    repository = artefact.folder.parent.parent
    command = export_command(NAME, "--checkpoint", str(checkpoint), "--out", str(repository))
    subprocess.run(command, capture_output=True, cwd=ROOT, check=True)
    assert read_artefact(repository / NAME / "2").manifest.version == "2"
    assert read_artefact(artefact.folder).manifest == artefact.manifest


def test_version_may_be_chosen_and_is_never_changed(checkpoint: Path, tmp_path: Path) -> None:
    options = ("--checkpoint", str(checkpoint), "--out", str(tmp_path), "--max-batch-size", "1", "--version", "7")

    def run(*more: str) -> subprocess.CompletedProcess[str]:
        command = export_command(NAME, *options, *more)
        return subprocess.run(command, capture_output=True, text=True, cwd=ROOT, check=False)

    assert run().returncode == 0
    assert read_artefact(tmp_path / NAME / "7").manifest.version == "7"
    kept = run("--resume")
    assert kept.returncode == 0
    assert kept.stdout.splitlines()[1].split()[-1] == "kept"
    (tmp_path / NAME / "9").mkdir()
    # The last is another request than that of the version which is there.
    for refused in (run(), run("--resume", "--max-batch-size", "2")):
        assert refused.returncode == 1
        (line,) = refused.stderr.splitlines()
        assert line.startswith(f"clipserve export: {tmp_path / NAME / '7'} is there already, and versions are never")
        assert line.endswith("give another number (--version), or none, which makes 10")


@pytest.mark.parametrize("number", ["0", "007", "-1", "1.5", "two", ""])
def test_version_that_is_no_number_is_refused(number: str) -> None:
    command = export_command(NAME, f"--version={number}")
    run = subprocess.run(command, capture_output=True, text=True, cwd=ROOT, check=False)
    assert run.returncode == 2
    assert f"argument --version: {number!r} is no whole number from 1 on" in run.stderr


def test_largest_batch_may_be_one(checkpoint: Path, tmp_path: Path) -> None:
    command = export_command(NAME, "--checkpoint", str(checkpoint), "--out", str(tmp_path), "--max-batch-size", "1")
    run = subprocess.run(command, capture_output=True, text=True, cwd=ROOT, check=False)
    assert run.returncode == 0, run.stderr
    made = finished(make_request(NAME, checkpoint, max_batch_size=1), tmp_path)
    assert made is not None, "--resume would make it again"
    assert made.manifest.max_batch_size == 1
    assert made.manifest.precisions["fp32"].verification.batch_sizes == (1,)


def test_weights_are_said_to_be_random_at_the_beginning(tmp_path: Path) -> None:
    command = export_command(NAME, "--out", str(tmp_path / "repository"))
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True, cwd=ROOT) as process:
        assert process.stderr is not None
        lines = [process.stderr.readline() for _ in range(2)]
        process.terminate()
        process.stderr.read()
    assert lines[0] == "- building the network\n"
    assert lines[1].startswith("- no checkpoint is given (--checkpoint): the weights are random")


def test_wrong_checkpoint_is_named_and_nothing_is_written(tmp_path: Path) -> None:
    file = tmp_path / "other.safetensors"
    save_file(create_model("uniformer_s_in1k").state_dict(), file)
    command = export_command(NAME, "--checkpoint", str(file), "--out", str(tmp_path / "repository"))
    run = subprocess.run(command, capture_output=True, text=True, cwd=ROOT, check=False)
    assert run.returncode == 1
    assert "does not fit uniformer_tiny_shapes" in run.stderr
    assert not list((tmp_path / "repository").glob("*"))


def test_bgr_weights_get_their_channels_turned_inside_the_graph() -> None:
    network = create_model("uniformer_s_16_ssv2", depths=(1, 1, 1, 1), embed_dims=(16, 32, 64, 64))
    frames = np.random.default_rng(2).integers(0, 256, (1, 4, 64, 64, 3), dtype=np.uint8)
    blue_first = (torch.from_numpy(frames[..., ::-1].copy()).float() / 255 - 0.45) / 0.225
    with torch.inference_mode():
        expected = network(blue_first.permute(0, 4, 1, 2, 3)).numpy()
    assert np.allclose(torch_outputs(served_network(network), frames)["logits"], expected, atol=1e-4)


def test_file_that_differs_is_refused_with_the_figures(artefact: Artefact) -> None:
    other = served_network(create_model(NAME))
    with pytest.raises(VerificationError, match=r"differs from torch by a relative .*the limit is 0.0001"):
        verify(artefact.model_file("fp32"), "fp32", torch_cases(NAME, other), 4)


def test_file_that_is_no_model_is_refused(tmp_path: Path) -> None:
    file = tmp_path / "model.onnx"
    file.write_bytes(b"nothing")
    views = verification_inputs(input_shape(NAME), 1)
    with pytest.raises(VerificationError, match="cannot be run"):
        verify(file, "fp32", [Case(views, {"logits": np.zeros((1, 11), np.float32)})], 1)


class _Undecided(nn.Module):
    """What it computes depends on what it sees, which no graph can say."""

    def forward(self, x: Tensor) -> Tensor:
        return x if x.sum() > 0 else -x


def test_network_that_torch_cannot_export_is_an_export_error(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    served = ServedNetwork(_Undecided(), model_entry("uniformer_s_in1k").weights.preprocessing)
    with pytest.raises(ExportError, match=r"^torch cannot export the network: .+$"):
        export_onnx(served, (32, 32, 3), 2, tmp_path / "model.onnx")
    assert "Traceback" in caplog.text


def test_image_network_exports(tmp_path: Path) -> None:
    network = create_model("uniformer_s_in1k", depths=(1, 1, 1, 1))
    served, file = served_network(network), tmp_path / "model.onnx"
    export_onnx(served, (224, 224, 3), 4, file)
    views = verification_inputs((224, 224, 3), 4)
    assert verify(file, "fp32", [Case(views, torch_outputs(served, views))], 4).relative_error < 1e-4


SEGMENTOR = "uniformer_tiny_shapes_fpn"


@pytest.fixture(scope="module")
def segmentor(tmp_path_factory: pytest.TempPathFactory) -> tuple[ServedNetwork, Path]:
    """A segmentation network with random weights, and its file."""
    torch.manual_seed(3)
    served, file = served_network(create_model(SEGMENTOR)), tmp_path_factory.mktemp("segmentor") / "model.onnx"
    export_onnx(served, input_shape(SEGMENTOR), 2, file)
    return served, file


@pytest.mark.parametrize("size", [(64, 64), (64, 352), (288, 96), (224, 224)])
def test_segmentor_takes_any_size_and_answers_with_classes_and_coarse_logits(
    segmentor: tuple[ServedNetwork, Path], size: tuple[int, int]
) -> None:
    served, file = segmentor
    frames = verification_inputs((*size, 3), 2)
    session = ort.InferenceSession(file, providers=["CPUExecutionProvider"])
    mask, logits = session.run(["mask", "logits"], {"frames": frames})
    with torch.inference_mode():
        # The network's own answer, at the size of the picture.
        mean, std = torch.tensor([0.485, 0.456, 0.406]), torch.tensor([0.229, 0.224, 0.225])
        full = served.network(((torch.from_numpy(frames) / 255 - mean) / std).permute(0, 3, 1, 2))
    assert (mask.dtype, mask.shape) == (np.uint8, (2, *size))
    assert logits.shape == (2, 6, size[0] // 4, size[1] // 4)
    assert (mask == full.argmax(dim=1).numpy()).mean() > 0.999


def test_mask_of_other_classes_is_refused(segmentor: tuple[ServedNetwork, Path]) -> None:
    served, file = segmentor
    cases = torch_cases(SEGMENTOR, served)
    turned = [Case(case.views, case.outputs | {"mask": np.asarray(case.outputs["mask"][:, ::-1])}) for case in cases]
    with pytest.raises(VerificationError, match=r"top-1 agreement [\d.]+%\); the limit is 0.0001, and 99.9%"):
        verify(file, "fp32", turned, 2)

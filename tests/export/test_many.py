"""`clipserve export` of several models: patterns, checkpoints of each, --resume, and what goes wrong on the way."""

import argparse
import json
import re
import shutil
import subprocess
import sys
from dataclasses import replace
from importlib.metadata import version
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from export.artefact import make_request
from export.cli import ExportCommand
from export.errors import ExportError
from export.names import SERVED_TASKS
from export.resume import finished
from export.selection import find_checkpoint, matching_models
from export.sources import Sources
from export.staging import staging
from models import create_model, list_models, model_entry
from tests.command import clipserve

NAMES = ["uniformer_tiny_shapes", "uniformer_tiny_shapes_fpn"]
ROOT = Path(__file__).parents[2]


def export(*arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "service.cli", "export", *arguments, "--max-batch-size", "2"]
    return subprocess.run(command, capture_output=True, text=True, cwd=ROOT, check=False)


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with weights of classifiers alone."""
    torch.manual_seed(1)
    folder = tmp_path_factory.mktemp("weights")
    for name in (NAMES[0], "smlpnet_tiny_shapes"):
        save_file(create_model(name).state_dict(), folder / f"{name}.safetensors")
    return folder


@pytest.fixture(scope="module")
def exported(weights: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, subprocess.CompletedProcess[str]]:
    repository = tmp_path_factory.mktemp("many") / "repository"
    return repository, export(*NAMES, "--checkpoint", str(weights), "--out", str(repository))


def test_one_failure_does_not_keep_the_others_from_being_exported(
    exported: tuple[Path, subprocess.CompletedProcess[str]],
) -> None:
    repository, run = exported
    assert run.returncode == 1
    assert "holds no checkpoint of uniformer_tiny_shapes_fpn; looked for uniformer_tiny_shapes_fpn" in run.stderr
    *rows, total = run.stdout.splitlines()
    assert [row.split()[0] for row in rows] == ["model", "uniformer_tiny_shapes/1", NAMES[1]]
    assert "seconds in all" in total
    assert re.search(rf"^{NAMES[1]} +not exported: .+ holds no checkpoint of {NAMES[1]}; ", run.stdout, re.MULTILINE)
    assert [folder.name for folder in repository.iterdir()] == NAMES[:1]


def test_resume_leaves_out_what_is_there(
    exported: tuple[Path, subprocess.CompletedProcess[str]], weights: Path
) -> None:
    repository, _ = exported
    run = export(NAMES[0], "--checkpoint", str(weights), "--out", str(repository), "--resume")
    assert run.returncode == 0, run.stderr
    assert run.stdout.splitlines()[1].split()[-1] == "kept"
    assert [folder.name for folder in (repository / NAMES[0]).iterdir()] == ["1"]


def test_what_was_made_otherwise_is_made_again(
    exported: tuple[Path, subprocess.CompletedProcess[str]], weights: Path, tmp_path: Path
) -> None:
    repository, _ = exported
    checkpoint = weights / f"{NAMES[0]}.safetensors"
    assert finished(make_request(NAMES[0], checkpoint, max_batch_size=2), repository) is not None
    other = tmp_path / "other.safetensors"
    save_file(create_model(NAMES[0]).state_dict(), other)
    clips = tmp_path / "clips"
    clips.mkdir()
    for request in (
        make_request(NAMES[0], other, max_batch_size=2),
        make_request(NAMES[0], None, max_batch_size=2),
        make_request(NAMES[0], checkpoint, max_batch_size=3),
        make_request(NAMES[0], checkpoint, max_batch_size=2, precisions=("fp16",)),
        make_request(NAMES[0], checkpoint, max_batch_size=2, calibration=clips),
        # Not asked for by make_request, which wants it installed.
        replace(make_request(NAMES[0], checkpoint, max_batch_size=2), engines=("tensorrt",)),
    ):
        assert finished(request, repository) is None, request


def test_folder_whose_name_is_no_number_is_no_version(
    exported: tuple[Path, subprocess.CompletedProcess[str]], weights: Path, tmp_path: Path
) -> None:
    repository = tmp_path / "repository"
    shutil.copytree(exported[0], repository)
    for name in ("1.bak", "abc", "007", "\u00b2"):
        shutil.copytree(repository / NAMES[0] / "1", repository / NAMES[0] / name)
    run = export(NAMES[0], "--checkpoint", str(weights), "--out", str(repository), "--resume")
    assert run.returncode == 0, run.stderr
    assert run.stdout.splitlines()[1].split()[-1] == "kept"
    told = clipserve("models", NAMES[0], "--repository", str(repository))
    assert re.search(r"^artefact versions +1$", told.stdout, re.MULTILINE)
    with staging(repository) as stage:
        assert stage.put_in_place(NAMES[0], lambda _: None) == repository / NAMES[0] / "2"


@pytest.mark.parametrize("damage", ["content", "missing", "tools", "protocol", "code", "names"])
def test_artefact_that_is_damaged_or_would_be_another_now_is_made_again(
    exported: tuple[Path, subprocess.CompletedProcess[str]], weights: Path, tmp_path: Path, damage: str
) -> None:
    repository = tmp_path / "repository"
    shutil.copytree(exported[0], repository)
    request = make_request(NAMES[0], weights / f"{NAMES[0]}.safetensors", max_batch_size=2)
    assert finished(request, repository) is not None
    folder = repository / NAMES[0] / "1"
    if damage == "content":
        (folder / "model.onnx").write_bytes(b"half of it")
    elif damage == "missing":
        (folder / "labels.txt").unlink()
    else:
        manifest = json.loads((folder / "manifest.json").read_text())
        if damage == "tools":
            manifest["tools"]["torch"] = "1.0"
        elif damage == "code":
            manifest["tools"]["code"] = "of another day"
        elif damage == "names":
            (folder / "labels.txt").rename(folder / "classes.txt")
            manifest["labels"] = "classes.txt"
            manifest["files"]["classes.txt"] = manifest["files"].pop("labels.txt")
        else:
            manifest["preprocessing"]["channels"] = "bgr"
        (folder / "manifest.json").write_text(json.dumps(manifest))
    assert finished(request, repository) is None


@pytest.mark.parametrize("decoder", ["av", "numpy", "opencv-python-headless", "pillow"])
def test_artefact_is_made_again_if_its_clips_were_decoded_by_another_version(
    exported: tuple[Path, subprocess.CompletedProcess[str]], weights: Path, tmp_path: Path, decoder: str
) -> None:
    repository, clips = tmp_path / "repository", tmp_path / "clips"
    shutil.copytree(exported[0], repository)
    clips.mkdir()
    request = make_request(NAMES[0], weights / f"{NAMES[0]}.safetensors", max_batch_size=2, calibration=clips)
    file = repository / NAMES[0] / "1/manifest.json"
    manifest = json.loads(file.read_text())
    assert decoder not in manifest["tools"]
    manifest["clips"] = request.sources.clips
    manifest["tools"] |= {name: version(name) for name in ("av", "numpy", "opencv-python-headless", "pillow")}
    file.write_text(json.dumps(manifest))
    assert finished(request, repository) is not None
    manifest["tools"][decoder] = "0.1"
    file.write_text(json.dumps(manifest))
    assert finished(request, repository) is None


def test_runtime_that_is_named_twice_counts_once() -> None:
    parser = argparse.ArgumentParser()
    ExportCommand().add_arguments(parser)
    arguments = parser.parse_args([NAMES[0], "--runtime", "tensorrt_rtx,onnx,tensorrt_rtx", "--precision", "fp16,fp16"])
    assert arguments.runtime == ("tensorrt_rtx", "onnx")
    assert arguments.precision == ("fp16",)


CHANGED = """
import sys
from export.sources import tool_versions
for file in sys.argv[1:]:
    before = tool_versions()["code"]
    with open(file, "a") as source:
        source.write("# changed")
    print(tool_versions()["code"] != before)
"""


def test_code_is_all_that_makes_and_verifies_a_file(tmp_path: Path) -> None:
    for package in ("models", "export", "service"):
        shutil.copytree(ROOT / package, tmp_path / package, ignore=shutil.ignore_patterns("__pycache__"))
    files = ["models/mvit.py", "export/verification.py", "service/manifest/parity.py", "service/media/decoding.py"]
    files += ["service/runtimes/comparison.py", "service/app.py"]
    run = subprocess.run(
        [sys.executable, "-c", CHANGED, *files], capture_output=True, text=True, cwd=tmp_path, check=True
    )
    assert run.stdout.split() == ["True"] * 5 + ["False"]


def test_what_others_put_into_the_folder_counts_for_nothing(
    exported: tuple[Path, subprocess.CompletedProcess[str]], weights: Path, tmp_path: Path
) -> None:
    repository = tmp_path / "repository"
    shutil.copytree(exported[0], repository)
    folder = repository / NAMES[0] / "1"
    (folder / ".DS_Store").write_bytes(b"of a file manager")
    (folder / "@eaDir").mkdir()
    request = make_request(NAMES[0], weights / f"{NAMES[0]}.safetensors", max_batch_size=2)
    assert finished(request, repository) is not None


@pytest.mark.parametrize(
    ("bindings", "is_finished"),
    [
        ("__version__ = '11.4.0.106'", True),
        ("__version__ = '11.5.0.1'", False),
        ("raise ImportError('libnvinfer.so.11')", False),
    ],
)
def test_engines_are_confirmed_by_the_version_that_the_bindings_tell(
    exported: tuple[Path, subprocess.CompletedProcess[str]],
    weights: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    bindings: str,
    is_finished: bool,
) -> None:
    """The distribution that brings them is called tensorrt-cu13: none is called as the module is."""
    repository = tmp_path / "repository"
    shutil.copytree(exported[0], repository)
    file = repository / NAMES[0] / "1/manifest.json"
    manifest = json.loads(file.read_text())
    manifest["precisions"]["fp32"]["engines"] = {"tensorrt": "11.4.0.106"}
    file.write_text(json.dumps(manifest))
    (tmp_path / "packages/tensorrt").mkdir(parents=True)
    (tmp_path / "packages/tensorrt/__init__.py").write_text(bindings)
    monkeypatch.syspath_prepend(tmp_path / "packages")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path / "packages"))
    request = make_request(NAMES[0], weights / f"{NAMES[0]}.safetensors", max_batch_size=2, engines=["tensorrt"])
    assert (finished(request, repository) is not None) is is_finished


def test_source_that_changes_while_it_is_read_is_named(tmp_path: Path) -> None:
    checkpoint = tmp_path / "weights.safetensors"
    checkpoint.write_bytes(b"as ordered")
    sources = Sources.look_at(checkpoint, None)
    sources.check_unchanged()
    checkpoint.write_bytes(b"as read")
    with pytest.raises(ExportError, match=r"weights\.safetensors changed while it was read"):
        sources.check_unchanged()
    checkpoint.unlink()
    with pytest.raises(ExportError, match=r"weights\.safetensors changed while it was read"):
        sources.check_unchanged()


def test_pattern_means_all_that_are_served() -> None:
    found = matching_models(["uniformer_s_*", "mvit_b16_in1k", "uniformer_s_in1k"])
    assert found[-1] == "mvit_b16_in1k"
    assert found.count("uniformer_s_in1k") == 1
    tasks = {model_entry(name).weights.task for name in found}
    assert tasks <= set(SERVED_TASKS)
    assert any(model_entry(name).weights.task not in SERVED_TASKS for name in list_models() if "uniformer_s_" in name)
    with pytest.raises(ExportError, match=r"no model matches 'resnet\*'"):
        matching_models(["resnet*"])


def test_checkpoint_is_found_by_name_or_by_its_official_name(tmp_path: Path) -> None:
    official = model_entry("cyclemlp_b1_in1k").weights.checkpoint
    assert official is not None
    (tmp_path / official).write_bytes(b"")
    (tmp_path / "mvit_b16_in1k.safetensors").write_bytes(b"")
    nowhere = tmp_path / "nowhere"
    assert find_checkpoint("cyclemlp_b1_in1k", tmp_path, alone=False) == tmp_path / official
    found = find_checkpoint("mvit_b16_in1k", tmp_path, alone=True)
    assert found == tmp_path / "mvit_b16_in1k.safetensors"
    assert find_checkpoint("mvit_b16_in1k", None, alone=True) is None
    with pytest.raises(ExportError, match="is one checkpoint for several models"):
        find_checkpoint("cyclemlp_b1_in1k", tmp_path / official, alone=False)
    with pytest.raises(ExportError, match="nowhere does not exist"):
        find_checkpoint("cyclemlp_b1_in1k", nowhere, alone=False)


BROKEN = """
import sys
import export.artefact

def broken(*_):
    raise {error}

export.artefact.export_model = broken
from service.cli import main
sys.exit(main(sys.argv[1:]))
"""


@pytest.mark.parametrize(
    ("error", "reason", "is_foreseen"),
    [
        ("OSError(28, 'No space left on device')", "[Errno 28] No space left on device", True),
        ("KeyError('surprise')", "KeyError: 'surprise' (a fault of ours; the traceback is above)", False),
    ],
)
def test_error_of_any_kind_is_a_line_of_the_summary(
    exported: tuple[Path, subprocess.CompletedProcess[str]], weights: Path, error: str, reason: str, is_foreseen: bool
) -> None:
    repository, folder = exported[0], str(weights)
    arguments = ["export", "smlpnet_tiny_shapes", NAMES[0], "--checkpoint", folder, "--max-batch-size", "2", "--resume"]
    command = [sys.executable, "-c", BROKEN.format(error=error), *arguments, "--out", str(repository)]
    run = subprocess.run(command, capture_output=True, text=True, cwd=ROOT, check=False)
    assert run.returncode == 1
    _, kept, failed, _ = run.stdout.splitlines()
    assert kept.split()[0] == f"{NAMES[0]}/1"
    assert failed.split(maxsplit=1) == ["smlpnet_tiny_shapes", f"not exported: {reason}"]
    assert ("Traceback" not in run.stderr) is is_foreseen


def test_name_that_is_mistyped_is_named_before_any_work(tmp_path: Path) -> None:
    run = export(NAMES[0], "uniformer_tiny_shape", "--out", str(tmp_path / "repository"))
    assert run.returncode == 1
    assert run.stderr.startswith("clipserve export: unknown model 'uniformer_tiny_shape'; did you mean uniformer_tiny_")
    assert not (tmp_path / "repository").exists()


@pytest.mark.parametrize("out", ["/proc/nope", "README.md", "README.md/below"])
def test_folder_that_cannot_be_written_to_is_named_before_any_work(out: str) -> None:
    run = export(*NAMES, "--out", out)
    assert run.returncode == 1
    (line,) = run.stderr.splitlines()
    assert re.match(rf"clipserve export: {re.escape(out)} (is no folder|cannot be made or written to)", line)


@pytest.mark.parametrize("size", ["x", "0", "257", "1.5", ""])
def test_batch_size_that_is_none_is_refused(size: str) -> None:
    run = clipserve("export", NAMES[0], "--max-batch-size", size)
    assert run.returncode == 2
    assert f"argument --max-batch-size: {size!r} is no whole number from 1 to 256" in run.stderr


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (("--checkpoint", "missing.pth"), "missing.pth does not exist (--checkpoint); `clipserve models"),
        (("--calibration", "missing"), "there is no folder missing to take clips from"),
    ],
)
def test_missing_input_is_named_before_any_work(tmp_path: Path, options: tuple[str, str], message: str) -> None:
    run = export(NAMES[0], *options, "--out", str(tmp_path / "repository"))
    assert run.returncode == 1
    assert message in run.stderr
    assert "- " not in run.stderr.splitlines()[0]
    assert not (tmp_path / "repository").exists()


@pytest.mark.parametrize(
    ("verb", "module", "extra"),
    [("export", "torch", "export"), ("export", "onnxruntime", "cpu"), ("models", "torch", "export")],
)
def test_extra_that_holds_a_missing_module_is_named(verb: str, module: str, extra: str) -> None:
    run = clipserve(verb, NAMES[0], without=module)
    assert run.returncode == 2
    cure = f"pip install 'clipserve[{extra}]'"
    assert run.stderr == f"clipserve: `{verb}` needs {module}, which is not installed: {cure}\n"

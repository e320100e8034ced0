"""`clipserve doctor` as a user runs it."""

import json
import re
import shutil
import socket
import subprocess
from importlib.metadata import version
from pathlib import Path

import av
import pytest

from service.media.formats import ALLOWED_CODECS
from service.settings import Settings
from tests.command import clipserve, finding
from tests.server import ROOT


def doctor(*options: str, without: str = "", **environment: str) -> subprocess.CompletedProcess[str]:
    return clipserve("doctor", *options, without=without, **environment)


def test_sound_installation_has_nothing_to_mend() -> None:
    run = doctor()
    assert (run.returncode, run.stderr) == (0, "")
    assert run.stdout.endswith("Nothing to mend.\n")
    assert version("onnxruntime") in finding(run, "onnxruntime")
    assert version("openvino") in finding(run, "openvino")
    # What the CPU cannot compute is not promised.
    has_bf16 = {"avx512_bf16", "amx_bf16"} & set(Path("/proc/cpuinfo").read_text().split())
    assert ("bf16," in finding(run, "openvino").partition(";")[0]) == bool(has_bf16)
    assert finding(run, "decoders").split(", ") == [name for name in ALLOWED_CODECS if name in av.codecs_available]
    assert finding(run, "uniformer_tiny_shapes") == "versions 1; served: latest"
    assert "fp32 runs" in finding(run, "uniformer_tiny_shapes/1")
    assert finding(run, "uniformer_light_tiny_shapes") == "versions 1; served: latest"
    assert finding(run, "tried on a GPU").startswith("nothing")
    # Here it would overwrite the ONNX Runtime that is there.
    assert "pip install 'clipserve[gpu]' in an environment without the extra cpu" in finding(run, "cuda")


def test_settings_say_where_they_come_from() -> None:
    run = doctor("--max-views", "7", CLIPSERVE_MAX_QUEUE_SIZE="99", CLIPSERVE_MAX_VIEWS="8", CLIPSERVE_MAX_BATCH="4")
    assert finding(run, "max_views") == "7 (option)"
    assert finding(run, "max_queue_size") == "99 (environment)"
    assert finding(run, "max_frames") == "60000 (default)"
    unread = "in the environment, but no setting is called so; did you mean CLIPSERVE_MAX_BATCH_SIZE?"
    assert finding(run, "CLIPSERVE_MAX_BATCH") == unread
    for name in Settings.model_fields:
        finding(run, name)


def test_missing_runtime_is_a_problem_only_for_who_asked_for_it() -> None:
    run = doctor("--runtime", "openvino", without="openvino")
    assert run.returncode == 1
    assert "pip install 'clipserve[openvino]'" in finding(run, "openvino")
    assert re.search(r"^\d to mend:\n  openvino: ", run.stdout, re.MULTILINE)
    run = doctor(without="openvino")
    assert run.returncode == 0
    assert "pip install 'clipserve[openvino]'" in finding(run, "openvino")


def test_setting_that_is_wrong_is_named() -> None:
    run = doctor("--max-views", "7", CLIPSERVE_PORT="99999", CLIPSERVE_DRAIN_DELAY="50")
    assert run.returncode == 1
    assert "CLIPSERVE_PORT: port='99999'" in run.stdout
    assert "CLIPSERVE_DRAIN_DELAY: drain_delay=50.0: more than drain_timeout=30.0 (default)" in run.stdout
    assert "2 to mend:" in run.stdout
    # The rest is told all the same.
    assert finding(run, "port") == "8000 (default)"
    assert finding(run, "drain_delay") == "5.0 (default)"
    assert finding(run, "max_views") == "7 (option)"
    assert "fp32 runs" in finding(run, "uniformer_tiny_shapes/1")


@pytest.mark.parametrize(
    ("content", "told"), [(None, "cannot be read"), ("max_views =", "is not TOML"), ("max_veiws = 1", "did you mean")]
)
def test_file_that_cannot_be_used_leaves_the_rest_to_tell(tmp_path: Path, content: str | None, told: str) -> None:
    file = tmp_path / "clipserve.toml"
    if content is not None:
        file.write_text(content)
    run = doctor("--config", str(file))
    assert run.returncode == 1
    assert str(file) in finding(run, "setting")
    assert told in finding(run, "setting")
    assert "fp32 runs" in finding(run, "uniformer_tiny_shapes/1")


def test_address_is_tried() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = str(taken.getsockname()[1])
        assert finding(doctor("--port", port), f"127.0.0.1 port {port}").startswith("taken")
    assert finding(doctor("--port", port), f"127.0.0.1 port {port}") == "free"
    run = doctor("--host", "nope.invalid")
    assert run.returncode == 1
    assert "cannot listen on nope.invalid port 8000" in finding(run, "nope.invalid port 8000")


def test_empty_repository_is_a_problem(tmp_path: Path) -> None:
    run = doctor("--repository", str(tmp_path))
    assert run.returncode == 1
    assert "clipserve export NAME" in finding(run, "models")


def test_long_name_does_not_run_into_what_is_said_of_it(tmp_path: Path) -> None:
    name = "network_of_somebody_with_a_name_of_more_than_thirty_characters"
    shutil.copytree(ROOT / "model_repository/uniformer_tiny_shapes/1", tmp_path / name / "1")
    assert f"  {name}  versions 1; served: latest\n" in doctor("--repository", str(tmp_path)).stdout


def test_model_that_was_tampered_with_or_lacks_the_precision_is_named(tmp_path: Path) -> None:
    folder = tmp_path / "uniformer_tiny_shapes/1"
    shutil.copytree(ROOT / "model_repository/uniformer_tiny_shapes/1", folder)
    run = doctor("--repository", str(tmp_path), "--precision", "int8")
    assert run.returncode == 1
    assert "has no precision int8" in finding(run, "uniformer_tiny_shapes/1")
    setting = '{"uniformer_tiny_shapes": {"precision": "fp32"}}'
    assert f"CLIPSERVE_MODELS='{setting}'" in finding(run, "uniformer_tiny_shapes/1")
    assert doctor("--repository", str(tmp_path), "--precision", "int8", CLIPSERVE_MODELS=setting).returncode == 0
    with (folder / "model.onnx").open("ab") as file:
        file.write(b"\0")
    run = doctor("--repository", str(tmp_path))
    assert run.returncode == 1
    assert "sha256 differs" in finding(run, "uniformer_tiny_shapes/1")


def test_version_that_was_renamed_is_refused_with_the_way_out(tmp_path: Path) -> None:
    folder = tmp_path / "uniformer_tiny_shapes/2"
    shutil.copytree(ROOT / "model_repository/uniformer_tiny_shapes/1", folder)
    run = doctor("--repository", str(tmp_path))
    assert run.returncode == 1
    assert finding(run, "uniformer_tiny_shapes/2").endswith(
        "export it with `clipserve export --name MODEL --version N`"
    )


def test_model_that_is_untrained_is_not_passed_over_at_the_end(tmp_path: Path) -> None:
    folder = tmp_path / "uniformer_tiny_shapes/1"
    shutil.copytree(ROOT / "model_repository/uniformer_tiny_shapes/1", folder)
    manifest = json.loads((folder / "manifest.json").read_text())
    (folder / "manifest.json").write_text(json.dumps(manifest | {"checkpoint": None}))
    run = doctor("--repository", str(tmp_path))
    assert run.returncode == 0, "it can be served all the same"
    assert run.stdout.endswith("\nThe server would start, but see what is said above of uniformer_tiny_shapes/1.\n")
    assert "Nothing to mend" not in run.stdout


def test_two_packages_of_onnx_runtime_in_one_folder_are_a_problem(tmp_path: Path) -> None:
    metadata = tmp_path / "onnxruntime_gpu-1.31.1.dist-info/METADATA"
    metadata.parent.mkdir()
    metadata.write_text("Metadata-Version: 2.1\nName: onnxruntime-gpu\nVersion: 1.31.1\n")
    run = doctor(PYTHONPATH=str(tmp_path))
    assert run.returncode == 1
    assert "uninstall both" in finding(run, "two packages")

"""Versions of models: which are served, how they are asked for, and how they come and go while the server runs."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import re
import shutil
import socket
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from threading import Event

import httpx
import numpy as np
import onnx
import pytest
import tritonclient.http as triton
from tritonclient.utils import InferenceServerException

from demo.shapes import LABELS
from service.manifest import ManifestError, read_artefact
from service.repository.artefacts import find_artefacts
from tests.classifier import SIDE, write_classifier, write_manifest
from tests.command import clipserve, finding
from tests.keys import bearer, entry, setting
from tests.segmenter import NAME as SEGMENTER
from tests.segmenter import write_segmenter
from tests.server import ROOT, RunningServer, serving

PICTURE = (ROOT / "demo/media/sample.jpg").read_bytes()
INTERVAL = 0.2


@contextlib.contextmanager
def served(folder: Path, **settings: object) -> Iterator[RunningServer]:
    with serving(folder, repository=folder / "models", decode_workers=1, runtime_threads=1, **settings) as server:
        yield server


def classify(server: RunningServer, path: str = "classify") -> tuple[str, str]:
    """Return the version and the first class of the answer to a picture."""
    answer = httpx.post(f"{server.url}/v1/{path}", content=PICTURE, timeout=60)
    assert answer.status_code == 200, answer.text
    return answer.json()["version"], answer.json()["predictions"][0]["label"]


def refusal(server: RunningServer, path: str) -> str:
    """Return why a picture gets no answer because nothing serves the path."""
    answer = httpx.post(f"{server.url}/v1/{path}", content=PICTURE, timeout=60)
    assert (answer.status_code, answer.json()["code"]) == (404, "unknown_model")
    detail: str = answer.json()["detail"]
    return detail


def index(server: RunningServer, **request: object) -> dict[str, str]:
    """Return the state of every version, by name/version."""
    lines = httpx.post(f"{server.url}/v2/repository/index", json=request).json()
    assert all(set(line) == {"name", "version", "state", "reason"} for line in lines)
    return {f"{line['name']}/{line['version']}": line["state"] for line in lines}


def reason(server: RunningServer, name: str, version: str) -> str:
    """Return why a version stands as it does; nothing for one that is not there."""
    lines = httpx.post(f"{server.url}/v2/repository/index").json()
    return "".join(line["reason"] for line in lines if (line["name"], line["version"]) == (name, version))


def frames_input() -> triton.InferInput:
    frames = np.zeros((1, SIDE, SIDE, 3), np.uint8)
    return triton.InferInput("frames", list(frames.shape), "UINT8").set_data_from_numpy(frames)


def connected(server: RunningServer) -> triton.InferenceServerClient:
    return triton.InferenceServerClient(server.url.removeprefix("http://"), network_timeout=60)


def failed_start(folder: Path, **settings: str) -> str:
    """Return the log of a server that does not start."""
    environment = {f"CLIPSERVE_{key.upper()}": value for key, value in settings.items()}
    ended = clipserve("serve", "--repository", str(folder), "--port", "0", **environment)
    assert ended.returncode == 1
    return ended.stderr


def break_file(folder: Path) -> None:
    with (folder / "labels.txt").open("a") as file:
        file.write("one too many\n")


def test_highest_number_is_the_newest_and_alone_is_served(tmp_path: Path) -> None:
    for version in (2, 10, 9):
        write_classifier(tmp_path / "models", "m", version)
    (tmp_path / "models/m/11").mkdir()
    shutil.copytree(tmp_path / "models/m/10", tmp_path / "models/m/.12")
    with served(tmp_path) as server:
        assert index(server) == {"m/2": "UNAVAILABLE", "m/9": "UNAVAILABLE", "m/10": "READY"}
        assert index(server, ready=True) == {"m/10": "READY"}
        assert classify(server) == classify(server, "models/m/classify") == ("10", "class 10")
        assert classify(server, "models/m/versions/10/classify") == ("10", "class 10")
        assert "m/9 UNAVAILABLE" in refusal(server, "models/m/versions/9/classify")
        assert "there are 2, 9, 10" in refusal(server, "models/m/versions/11/classify")
        assert "there are 2, 9, 10" in refusal(server, "models/m/versions/x/classify")
        assert "latest" in reason(server, "m", "9")


def test_each_version_is_asked_for_and_counted_by_itself(tmp_path: Path) -> None:
    for version in (1, 2, 3):
        write_classifier(tmp_path / "models", "m", version)
    write_segmenter(tmp_path / "models")
    models = '{"m": {"versions": [1, 2], "default_version": 1}}'
    with served(tmp_path, models=models, versions="all") as server:
        assert index(server) == {"m/1": "READY", "m/2": "READY", "m/3": "UNAVAILABLE", f"{SEGMENTER}/1": "READY"}
        assert classify(server) == classify(server, "models/m/classify") == ("1", "class 1")
        assert classify(server, "models/m/versions/2/classify") == ("2", "class 2")
        mask = httpx.post(f"{server.url}/v1/models/{SEGMENTER}/versions/1/segment", content=PICTURE, timeout=60)
        assert (mask.status_code, mask.headers["content-type"]) == (200, "image/png")

        default, second = (httpx.get(f"{server.url}/v1/models/{path}").json() for path in ("m", "m/versions/2"))
        assert (default["version"], default["default"]) == ("1", True)
        assert (second["version"], second["default"]) == ("2", False)
        assert second["manifest"]["version"] == "2"
        assert httpx.get(f"{server.url}/v1/models/m/versions/3").status_code == 404

        client = connected(server)
        for _ in range(3):
            answer = client.infer("m", [frames_input()], model_version="2")
            assert answer.get_response()["model_version"] == "2"
            assert answer.as_numpy("logits").argmax() == 2
        assert client.infer("m", [frames_input()]).get_response()["model_version"] == "1"
        assert client.get_model_metadata("m")["versions"] == ["1", "2"]
        assert client.get_model_config("m")["version_policy"] == {"specific": {"versions": [1, 2]}}
        assert client.is_model_ready("m", "2")
        assert not client.is_model_ready("m", "3")

        def requests(**version: str) -> dict[str, int]:
            statistics = client.get_inference_statistics("m", **version)["model_stats"]
            return {model["version"]: model["inference_stats"]["success"]["count"] for model in statistics}

        # Of /v1: two to the default, one to version 2. Of /v2: one and three.
        assert requests() == {"1": 3, "2": 4}
        assert requests(model_version="2") == {"2": 4}
        metrics = server.metrics()
        assert 'clipserve_model_version_ready{model="m",version="2"} 1.0' in metrics
        assert 'clipserve_model_version_ready{model="m",version="3"} 0.0' in metrics


def test_default_model_may_name_a_version(tmp_path: Path) -> None:
    for name, version in (("a", 1), ("b", 1), ("b", 2)):
        write_classifier(tmp_path / "models", name, version)
    with served(tmp_path, default_model="b/1") as server:
        assert classify(server) == ("1", "class 1")
        assert httpx.get(f"{server.url}/v1/models/b/versions/1").json()["default"]
        assert classify(server, "models/b/classify") == ("2", "class 2")


def test_sizes_of_batches_that_the_export_does_not_allow_are_told(tmp_path: Path) -> None:
    # Exported for 4.
    write_classifier(tmp_path / "models", "m", 1)
    settings = {"max_batch_size": 64, "batch_sizes": "[2, 16]"}
    with served(tmp_path, **settings) as server:
        log = server.log.read_text()
        assert httpx.get(f"{server.url}/v2/models/m/config").json()["max_batch_size"] == 4
    environment = {f"CLIPSERVE_{name.upper()}": str(value) for name, value in settings.items()}
    report = clipserve("doctor", "--repository", str(tmp_path / "models"), **environment).stdout
    for text in (log, report):
        assert len(re.findall("is not used", text)) == 2
        for size in ("max_batch_size=64", "batch_sizes=16"):
            assert re.search(f"m/1:? +{size} is not used: batches have 4 views at most.*export --max-batch-size", text)


def test_models_differ_in_precision_and_runtime(tmp_path: Path) -> None:
    quantised = write_classifier(tmp_path / "models", "a", 1)
    precisions = json.loads((quantised / "manifest.json").read_text())["precisions"]
    shutil.copy(quantised / "model.onnx", quantised / "model.int8.onnx")
    write_manifest(quantised, precisions=precisions | {"int8": {**precisions["fp32"], "file": "model.int8.onnx"}})
    write_classifier(tmp_path / "models", "b", 2)
    assert "b/2 has no precision int8" in failed_start(tmp_path / "models", precision="int8")
    models = '{"b": {"precision": "fp32", "runtime": "openvino"}}'
    with served(tmp_path, precision="int8", models=models) as server:
        listed = {model["name"]: model for model in httpx.get(f"{server.url}/v1/models").json()["models"]}
        assert (listed["a"]["precision"], listed["a"]["runtime"]) == ("int8", "onnxruntime-cpu")
        assert (listed["b"]["precision"], listed["b"]["runtime"]) == ("fp32", "openvino-cpu")
        assert classify(server, "models/a/classify") == ("1", "class 1")
        assert classify(server, "models/b/classify") == ("2", "class 2")
    options = ("doctor", "--repository", str(tmp_path / "models"), "--precision", "int8", "--models", models)
    run = clipserve(*options)
    assert run.returncode == 0, run.stdout
    assert finding(run, "a/1").endswith("int8 runs on onnxruntime")
    assert finding(run, "b/2").endswith("fp32 runs on openvino")
    run = clipserve(*options, without="openvino")
    assert run.returncode == 1
    assert "pip install 'clipserve[openvino]'" in finding(run, "openvino")


def test_odd_neighbours_of_a_model_stop_nothing(tmp_path: Path) -> None:
    models = tmp_path / "models"
    write_classifier(models, "m", 1)
    (models / "itself").symlink_to("itself")
    (models / "m/2").symlink_to("2")
    (models / "m/3/manifest.json").mkdir(parents=True)
    # No answer could name the first in UTF-8, and the second would write a line of its own into the log.
    for name in (b"\xff", b"m\nn"):
        shutil.copytree(models / "m/1", models / os.fsdecode(name) / "1")
    with served(tmp_path) as server:
        assert classify(server)[0] == "1"
        assert index(server) == {"m/1": "READY"}


def test_what_is_no_regular_file_is_not_read(tmp_path: Path) -> None:
    models = tmp_path / "models"
    write_classifier(models, "m", 1)
    # Kubernetes mounts files of a volume as links.
    (models / "m/1/labels.txt").rename(tmp_path / "labels")
    (models / "m/1/labels.txt").symlink_to(tmp_path / "labels")
    for version in (2, 3, 4):
        (models / f"m/{version}").mkdir()
    os.mkfifo(models / "m/2/manifest.json")
    (models / "m/3/manifest.json").symlink_to("/dev/zero")
    with socket.socket(socket.AF_UNIX) as bound, contextlib.chdir(models / "m/4"):
        bound.bind("manifest.json")
    for version, name in ((5, "labels.txt"), (6, "model.onnx")):
        file = write_classifier(models, "m", version) / name
        file.unlink()
        os.mkfifo(file)
    # A gigabyte that takes no room.
    os.truncate(write_classifier(models, "m", 7) / "manifest.json", 1 << 30)
    with served(tmp_path) as server:
        assert classify(server) == ("1", "class 1")
        assert set(index(server)) == {"m/1", "m/5", "m/6", "m/7"}
        assert "labels.txt is no regular file" in reason(server, "m", "5")
        assert "model.onnx is no regular file" in reason(server, "m", "6")
        assert "manifest.json has 1073741824 bytes; the limit is 16777216" in reason(server, "m", "7")


@pytest.mark.parametrize("closed", ["m", "m/1", "m/1/manifest.json", "m/1/model.onnx"])
def test_what_cannot_be_read_is_named_with_who_would_have_to(tmp_path: Path, closed: str) -> None:
    write_classifier(tmp_path, "m", 1)
    (tmp_path / closed).chmod(0)
    run = clipserve("serve", "--repository", str(tmp_path), "--port", "0", privileged=False)
    (tmp_path / closed).chmod(0o700)
    assert run.returncode == 1
    assert f"{tmp_path / closed} cannot be read by user id {os.geteuid()}" in run.stderr
    assert "Traceback" not in run.stderr


def test_missing_repository_is_told_of_like_an_empty_one(tmp_path: Path) -> None:
    told = failed_start(tmp_path / "missing")
    assert f"{tmp_path / 'missing'} cannot be read: No such file or directory" in told
    for log in (told, failed_start(tmp_path)):
        assert "name another folder (--repository, CLIPSERVE_REPOSITORY)" in log


@pytest.mark.parametrize(
    ("content", "told"),
    [
        ("{", "Invalid JSON: EOF while parsing an object at line 1 column 1"),
        ("{}", "task: is required"),
        ({"task": "pose"}, "task='pose': should be one of 'video_classification', "),
        ({"max_batch_size": 0}, "max_batch_size=0: should be greater than 0"),
        ({"views": {}}, "views.clips: is required; views.crops: is required"),
        ({"sampling": {"kind": "dense", "num_frames": 8}}, "sampling: sampling of kind dense needs a rate"),
        ({"colour": "red"}, "colour='red': nothing is called so here"),
        ({"files": {}}, "labels.txt has no sha256 under `files`"),
    ],
)
def test_what_is_wrong_in_a_manifest_is_named(tmp_path: Path, content: str | dict[str, object], told: str) -> None:
    file = write_classifier(tmp_path, "m", 1) / "manifest.json"
    file.write_text(content if isinstance(content, str) else json.dumps(json.loads(file.read_text()) | content))
    with pytest.raises(ManifestError) as refusal:
        read_artefact(file.parent)
    assert str(refusal.value).startswith(f"{file} is not a valid manifest: {told}")
    assert len(str(refusal.value).splitlines()) == 1


def test_reason_shows_no_path_of_the_server_but_the_log_does(tmp_path: Path) -> None:
    models = tmp_path / "models"
    write_classifier(models, "m", 1)
    (write_classifier(models, "m", 2) / "manifest.json").write_text("{}")
    break_file(write_classifier(models, "m", 3))
    (write_classifier(models, "m", 4) / "labels.txt").unlink()
    folder = write_classifier(models, "m", 5)
    (folder / "model.onnx").write_bytes(b"no graph")
    write_manifest(folder)
    with served(tmp_path) as server:
        shown = httpx.get(f"{server.url}/v1/models").text
        shown += httpx.post(f"{server.url}/v2/repository/index", json={}).text
        shown += refusal(server, "models/m/versions/5/classify")
        for version, file in ((2, "manifest.json"), (3, "labels.txt"), (4, "labels.txt"), (5, "model.onnx")):
            assert f"m/{version}/{file}" in reason(server, "m", str(version))
            assert str(models / f"m/{version}/{file}") in server.log.read_text()
    assert str(tmp_path) not in shown
    assert not re.search(r"(?<![\w.*/:])/(?!v\d)\w+/", shown), shown


def test_start_takes_the_newest_version_that_is_sound(tmp_path: Path) -> None:
    write_classifier(tmp_path / "models", "m", 1)
    break_file(write_classifier(tmp_path / "models", "m", 2))
    with served(tmp_path) as server:
        assert classify(server) == ("1", "class 1")
        assert "sha256 differs" in reason(server, "m", "2")
        (listed,) = httpx.get(f"{server.url}/v1/models").json()["models"]
        assert listed["version"] == "1"
        assert [(version["version"], version["state"]) for version in listed["versions"]] == [
            ("1", "READY"),
            ("2", "UNAVAILABLE"),
        ]
        assert listed["versions"][1]["reason"] == reason(server, "m", "2")
        assert "cannot load m/2" in server.log.read_text()
        assert 'clipserve_model_loads_total{model="m",result="failed"} 1.0' in server.metrics()
    pinned = failed_start(tmp_path / "models", models='{"m": {"default_version": 2}}')
    assert "m/2" in pinned
    assert "sha256 differs" in pinned
    break_file(tmp_path / "models/m/1")
    nothing = failed_start(tmp_path / "models")
    assert "m/1" in nothing
    assert "m/2" in nothing


def test_file_that_computes_something_else_than_torch_is_not_served(tmp_path: Path) -> None:
    name = "uniformer_tiny_shapes"
    first = tmp_path / "models" / name / "1"
    shutil.copytree(ROOT / "model_repository" / name / "1", first)
    second = shutil.copytree(first, first.parent / "2")
    model = onnx.load(second / "model.onnx")
    (bias,) = (tensor for tensor in model.graph.initializer if tensor.name.endswith("head.bias"))
    # As wrong as a half of one logit, which no class may ever notice.
    values = onnx.numpy_helper.to_array(bias) + np.eye(len(LABELS), dtype=np.float32)[0] / 2
    bias.CopyFrom(onnx.numpy_helper.from_array(values, bias.name))
    onnx.save(model, second / "model.onnx")
    manifest = json.loads((second / "manifest.json").read_text())
    manifest["version"] = "2"
    manifest["files"]["model.onnx"] = hashlib.sha256((second / "model.onnx").read_bytes()).hexdigest()
    (second / "manifest.json").write_text(json.dumps(manifest))
    with served(tmp_path) as server:
        assert classify(server)[0] == "1"
        assert "is not the network that was exported: its logits differ from torch's" in reason(server, name, "2")


@pytest.mark.parametrize(
    ("setting", "value", "words"),
    [
        ("models", '{"m": {"versions": [1, 3]}}', "version 3 of m"),
        ("models", '{"m": {"default_version": 4}}', "version 4 of m"),
        ("default_model", "m/5", "version 5 of m"),
        ("default_model", "n/1", "'n/1'"),
    ],
)
def test_version_that_the_settings_name_must_be_there(tmp_path: Path, setting: str, value: str, words: str) -> None:
    write_classifier(tmp_path, "m", 1)
    assert words in failed_start(tmp_path, **{setting: value})


def test_folder_is_followed(tmp_path: Path) -> None:
    models = tmp_path / "models"
    write_classifier(models, "m", 1)
    write_classifier(models, "other", 1)
    with served(tmp_path, watch_interval=INTERVAL) as server:
        assert classify(server, "models/m/classify") == ("1", "class 1")

        # Copied slowly: the manifest first, then the rest in parts.
        whole = write_classifier(tmp_path / "elsewhere", "m", 2)
        slow = models / "m/2"
        slow.mkdir()
        shutil.copy(whole / "manifest.json", slow)
        server.wait_for(lambda: "is missing" in reason(server, "m", "2"))
        shutil.copy(whole / "labels.txt", slow)
        content = (whole / "model.onnx").read_bytes()
        (slow / "model.onnx").write_bytes(content[:100])
        server.wait_for(lambda: "sha256 differs" in reason(server, "m", "2"))
        assert classify(server, "models/m/classify") == ("1", "class 1")
        assert httpx.get(f"{server.url}/readyz").status_code == 200
        with (slow / "model.onnx").open("ab") as file:
            file.write(content[100:])
        server.wait_for(lambda: index(server).get("m/2") == "READY")
        assert classify(server, "models/m/classify") == ("2", "class 2")
        server.wait_for(lambda: index(server)["m/1"] == "UNAVAILABLE")

        # Sound files that no runtime takes.
        unfit = write_classifier(tmp_path / "elsewhere", "m", 3)
        (unfit / "model.onnx").write_bytes(b"no graph")
        write_manifest(unfit)
        shutil.copytree(unfit, models / "m/3")
        server.wait_for(lambda: "cannot load" in reason(server, "m", "3"))
        assert classify(server, "models/m/classify") == ("2", "class 2")

        # Other content under the same number, sound, then broken.
        write_classifier(models, "m", 2, answer=7)
        server.wait_for(lambda: classify(server, "models/m/classify") == ("2", "class 7"))
        logits = {"name": "logits", "dtype": "float32", "shape": ["batch", 3]}
        write_manifest(models / "m/2", num_classes=3, outputs=[logits])
        server.wait_for(lambda: "labels for 3 classes" in reason(server, "m", "2"))
        assert index(server)["m/2"] == "READY"
        assert classify(server, "models/m/classify") == ("2", "class 7")

        # Gone: back to the one before.
        shutil.rmtree(models / "m/3")
        shutil.rmtree(models / "m/2")
        server.wait_for(lambda: classify(server, "models/m/classify") == ("1", "class 1"))
        server.wait_for(lambda: set(index(server)) == {"m/1", "other/1"})

        # Whole models.
        write_classifier(models, "new", 4)
        shutil.rmtree(models / "other")
        server.wait_for(lambda: index(server) == {"m/1": "READY", "new/4": "READY"})
        assert classify(server, "models/new/classify") == ("4", "class 4")
        assert "no model is called 'other'" in refusal(server, "models/other/classify")

        # A volume that is not mounted looks like an empty folder.
        models.rename(tmp_path / "away")
        server.wait_for(lambda: "what is served stays" in server.log.read_text())
        assert classify(server, "models/new/classify") == ("4", "class 4")
        (tmp_path / "away").rename(models)
        write_classifier(models, "new", 5)
        server.wait_for(lambda: classify(server, "models/new/classify") == ("5", "class 5"))


def test_files_that_come_and_go_beside_a_model_unload_nothing(tmp_path: Path) -> None:
    models = tmp_path / "models"
    folder = write_classifier(models, "m", 1)
    with served(tmp_path, watch_interval=INTERVAL) as server:
        # Emacs locks a file so, and the second links to itself.
        (folder / ".#manifest.json").symlink_to("somebody@host.123:456")
        (folder / "loop").symlink_to("loop")
        write_classifier(models, "new", 2)
        # By then the folder was looked at.
        server.wait_for(lambda: index(server).get("new/2") == "READY")
        assert classify(server, "models/m/classify") == ("1", "class 1")
        # Beside them a change is still seen.
        elsewhere = write_classifier(tmp_path / "elsewhere", "new", 3)
        (elsewhere / ".#labels.txt").symlink_to("somebody@host.123:456")
        sound = (elsewhere / "labels.txt").read_text()
        break_file(elsewhere)
        elsewhere.rename(models / "new/3")
        server.wait_for(lambda: "sha256 differs" in reason(server, "new", "3"))
        (models / "new/3/labels.txt").write_text(sound)
        server.wait_for(lambda: index(server).get("new/3") == "READY")
        log = server.log.read_text()
    assert log.count("loaded m/1") == 1
    assert "unloaded m/1" not in log


def test_file_that_is_renamed_during_the_look_hides_no_version(tmp_path: Path) -> None:
    folder = write_classifier(tmp_path, "m", 1)
    for number in range(50):
        (folder / f"notes.{number}").touch()
    done = Event()

    def rename() -> None:
        while not done.is_set():
            for number in range(50):
                (folder / f"notes.{number}").rename(folder / f".notes.{number}")
                (folder / f".notes.{number}").rename(folder / f"notes.{number}")

    with ThreadPoolExecutor(1) as executor:
        renaming = executor.submit(rename)
        try:
            for _ in range(200):
                assert find_artefacts(tmp_path)["m"][1].folder == folder
        finally:
            done.set()
        renaming.result()


def test_no_request_is_lost_while_versions_change(tmp_path: Path) -> None:
    models = tmp_path / "models"
    write_classifier(models, "m", 1)
    with served(tmp_path, watch_interval=INTERVAL) as server:
        done = Event()
        seen: set[tuple[str, str]] = set()

        def ask(_: int) -> list[tuple[str, str]]:
            answers = []
            with httpx.Client(timeout=60) as session:
                while not done.is_set():
                    answer = session.post(f"{server.url}/v1/models/m/classify", content=PICTURE)
                    assert answer.status_code == 200, answer.text
                    answers.append((answer.json()["version"], answer.json()["predictions"][0]["label"]))
                    seen.add(answers[-1])
            return answers

        def infer() -> list[tuple[str, str]]:
            client, answers = connected(server), []
            while not done.is_set():
                answer = client.infer("m", [frames_input()])
                answers.append((answer.get_response()["model_version"], f"class {answer.as_numpy('logits').argmax()}"))
            return answers

        with ThreadPoolExecutor(7) as executor:
            clients = [executor.submit(ask, number) for number in range(6)]
            clients.append(executor.submit(infer))
            try:
                for version in range(2, 8):
                    server.wait_for(lambda version=version: (str(version - 1), f"class {version - 1}") in seen)
                    write_classifier(tmp_path / "elsewhere", "m", version).rename(models / f"m/{version}")
                    server.wait_for(lambda version=version: index(server).get(f"m/{version}") == "READY")
                    shutil.rmtree(models / f"m/{version - 1}")
                server.wait_for(lambda: ("7", "class 7") in seen)
                write_classifier(models, "m", 7, answer=15)
                server.wait_for(lambda: ("7", "class 15") in seen)
            finally:
                done.set()
            answers = [future.result() for future in clients]
        expected = [*((str(version), f"class {version}") for version in range(1, 8)), ("7", "class 15")]
        for received in answers:
            # Every answer is of one version, and none comes from one older than the answer before.
            order = [expected.index(answer) for answer in received]
            assert order == sorted(order)
        assert seen == set(expected)
        server.wait_for(lambda: index(server) == {"m/7": "READY"})


def test_tritons_client_loads_and_unloads(tmp_path: Path) -> None:
    models = tmp_path / "models"
    for version in (1, 2):
        write_classifier(models, "m", version)
    keys = setting(entry("root", "root-key", admin=True), entry("guest", "guest-key"))
    with served(tmp_path, api_keys=keys) as server:
        client, admin = connected(server), bearer("root-key")

        def states() -> dict[str, str]:
            lines = client.get_model_repository_index(headers=admin)
            return {f"{line['name']}/{line['version']}": line["state"] for line in lines}

        def version_asked() -> str:
            answer = client.infer("m", [frames_input()], headers=admin).get_response()
            return str(answer["model_version"])

        def fails(call: Callable[..., object], **arguments: object) -> str:
            with pytest.raises(InferenceServerException) as caught:
                call(headers=admin, **arguments)
            return str(caught.value.message())

        assert states() == {"m/1": "UNAVAILABLE", "m/2": "READY"}
        client.unload_model("m", headers=admin)
        server.wait_for(lambda: states() == {"m/1": "UNAVAILABLE", "m/2": "UNAVAILABLE"})
        assert not client.is_model_ready("m", headers=admin)
        assert "unloaded" in fails(client.infer, model_name="m", inputs=[frames_input()])
        assert client.is_server_ready(headers=admin)
        client.load_model("m", headers=admin)
        assert version_asked() == "2"

        # Only `load` looks into the folder, which is not watched.
        write_classifier(models, "m", 3)
        write_classifier(models, "new", 1)
        client.load_model("new", headers=admin)
        assert version_asked() == "2"
        client.load_model("m", headers=admin)
        assert version_asked() == "3"
        server.wait_for(
            lambda: states() == {"m/1": "UNAVAILABLE", "m/2": "UNAVAILABLE", "m/3": "READY", "new/1": "READY"}
        )

        # One version by itself, whatever the settings choose, until the model is loaded as a whole.
        client.load_model("m/versions/1", headers=admin)
        assert version_asked() == "3"
        client.unload_model("m/versions/3", headers=admin)
        assert version_asked() == "1"
        client.load_model("m", headers=admin)
        assert version_asked() == "3"
        server.wait_for(lambda: states()["m/1"] == "UNAVAILABLE")

        broken = write_classifier(models, "m", 4)
        break_file(broken)
        text = fails(client.load_model, model_name="m")
        assert "m/4" in text
        assert "sha256 differs" in text
        assert version_asked() == "3"
        write_classifier(models, "m", 4)
        client.load_model("m", headers=admin)
        assert version_asked() == "4"

        assert "there are m, new" in fails(client.load_model, model_name="nothing")
        assert "there are 1, 2, 3, 4" in fails(client.load_model, model_name="m/versions/9")
        assert "there are m, new" in fails(client.unload_model, model_name="nothing")
        assert "config" in fails(client.load_model, model_name="m", config="{}")

        load = f"{server.url}/v2/repository/models/m/load"
        assert httpx.post(load).status_code == 401
        assert httpx.post(load, headers=bearer("guest-key")).status_code == 403
        assert "4096" in httpx.post(load, headers=bearer("root-key"), content=b"x" * 5000).json()["error"]


def test_version_that_cannot_be_loaded_by_hand_changes_nothing(tmp_path: Path) -> None:
    models = tmp_path / "models"
    write_classifier(models, "m", 1)
    keys = setting(entry("root", "root-key", admin=True))
    with served(tmp_path, watch_interval=INTERVAL, api_keys=keys) as server:
        break_file(write_classifier(models, "m", 2))
        load = f"{server.url}/v2/repository/models/m/versions/2/load"
        refused = httpx.post(load, headers=bearer("root-key"))
        assert refused.status_code == 400
        assert "m/2" in refused.json()["error"]
        # The folder is followed as before.
        write_classifier(models, "m", 3)
        admin = connected(server)
        server.wait_for(lambda: admin.is_model_ready("m", "3", headers=bearer("root-key")))
        assert "/v1/classify asks m (the first by name" in server.log.read_text()


def test_version_whose_folder_is_gone_stays_while_others_are_loaded_by_hand(tmp_path: Path) -> None:
    models = tmp_path / "models"
    write_classifier(models, "m", 1)
    keys = setting(entry("root", "root-key", admin=True))
    with served(tmp_path, api_keys=keys) as server:

        def change(path: str) -> None:
            answer = httpx.post(f"{server.url}/v2/repository/models/{path}", headers=bearer("root-key"), timeout=60)
            assert answer.status_code == 200, answer.text

        def ready() -> list[bool]:
            admin = connected(server)
            return [admin.is_model_ready("m", version, headers=bearer("root-key")) for version in ("1", "2", "3")]

        (models / "m/1").rename(tmp_path / "away")
        write_classifier(models, "m", 2)
        change("m/versions/2/load")
        assert ready() == [True, True, False]
        write_classifier(models, "m", 3)
        change("m/versions/3/load")
        assert ready() == [True, True, True]
        change("m/versions/2/unload")
        assert ready() == [True, False, True]
        # As the settings choose, of what lies in the folder.
        change("m/load")
        assert ready() == [False, False, True]


def test_followed_folder_takes_away_what_was_loaded_by_hand(tmp_path: Path) -> None:
    models = tmp_path / "models"
    for version in (1, 2):
        write_classifier(models, "m", version)
    keys = setting(entry("root", "root-key", admin=True))
    with served(tmp_path, watch_interval=INTERVAL, api_keys=keys) as server:
        admin = connected(server)
        admin.load_model("m/versions/1", headers=bearer("root-key"))
        shutil.rmtree(models / "m/1")
        server.wait_for(lambda: "unloaded m/1" in server.log.read_text())
        assert admin.is_model_ready("m", "2", headers=bearer("root-key"))


def test_manifest_without_a_model_file_keeps_nobody_waiting(tmp_path: Path) -> None:
    models = tmp_path / "models"
    write_classifier(models, "m", 1)
    keys = setting(entry("root", "root-key", admin=True))
    with served(tmp_path, api_keys=keys) as server:
        write_manifest(write_classifier(models, "m", 2), precisions={})

        def change(path: str) -> httpx.Response:
            return httpx.post(f"{server.url}/v2/repository/models/{path}", headers=bearer("root-key"), timeout=30)

        refused = change("m/load")
        assert refused.status_code == 400
        assert "m/2/manifest.json is not a valid manifest: precisions: " in refused.json()["error"]
        assert change("m/unload").status_code == 200
        assert change("m/versions/1/load").status_code == 200
        assert server.terminate() == 0


def test_default_model_that_was_unloaded_is_named(tmp_path: Path) -> None:
    for name in ("a", "b"):
        write_classifier(tmp_path / "models", name, 1)
    admin = bearer("root-key")
    keys = setting(entry("root", "root-key", admin=True))
    with served(tmp_path, api_keys=keys, default_model="b") as server:
        connected(server).unload_model("b", headers=admin)

        def answer_of(path: str) -> httpx.Response:
            return httpx.post(f"{server.url}/v1/{path}", content=PICTURE, headers=admin, timeout=60)

        # The old version may still be on its way out.
        server.wait_for(lambda: "unloaded b/1" in server.log.read_text())
        assert answer_of("classify").status_code == 404
        assert answer_of("classify").json()["detail"] == (
            "the default model cannot be asked: b is not served: b/1 UNAVAILABLE unloaded. "
            "POST to /v1/models/NAME/classify for another. Models here of which one classifies: a"
        )
        assert answer_of("segment").json()["detail"] == "no model that segments is loaded; there are a, b"


def test_without_an_admin_key_nobody_loads(server: RunningServer) -> None:
    for change in ("load", "unload"):
        answer = httpx.post(f"{server.url}/v2/repository/models/uniformer_tiny_shapes/{change}")
        assert answer.status_code == 403
        assert "admin key" in answer.json()["error"]


def test_old_version_finishes_what_it_accepted(tmp_path: Path) -> None:
    models = tmp_path / "models"
    write_classifier(models, "m", 1)
    with served(tmp_path, watch_interval=INTERVAL, upload_idle_timeout=60) as server:
        host, port = server.url.removeprefix("http://").split(":")
        with socket.create_connection((host, int(port)), timeout=60) as accepted:
            head = f"POST /v1/models/m/classify HTTP/1.1\r\nHost: x\r\nContent-Length: {len(PICTURE)}\r\n"
            accepted.sendall(f"{head}Connection: close\r\n\r\n".encode() + PICTURE[:100])
            server.wait_for(lambda: "clipserve_requests_in_flight 1.0" in server.metrics())
            write_classifier(models, "m", 2)
            server.wait_for(lambda: index(server) == {"m/1": "UNLOADING", "m/2": "READY"})
            assert classify(server) == ("2", "class 2")
            assert "m/1 UNLOADING" in refusal(server, "models/m/versions/1/classify")
            accepted.sendall(PICTURE[100:])
            answer = b"".join(iter(lambda: accepted.recv(65536), b""))
        assert answer.startswith(b"HTTP/1.1 200")
        body = json.loads(answer.partition(b"\r\n\r\n")[2])
        assert (body["version"], body["predictions"][0]["label"]) == ("1", "class 1")
        server.wait_for(lambda: index(server)["m/1"] == "UNAVAILABLE")


def resident_bytes(server: RunningServer) -> int:
    status = Path(f"/proc/{server.process.pid}/status").read_text()
    return int(status.partition("VmRSS:")[2].split()[0]) * 1024


def test_memory_of_replaced_versions_is_given_back(tmp_path: Path) -> None:
    models, ballast = tmp_path / "models", 64 << 20
    write_classifier(models, "m", 1, ballast=ballast)
    with served(tmp_path, watch_interval=INTERVAL) as server:
        sizes = []
        for version in range(2, 7):
            write_classifier(tmp_path / "elsewhere", "m", version, ballast=ballast).rename(models / f"m/{version}")
            server.wait_for(lambda version=version: index(server, ready=True) == {f"m/{version}": "READY"})
            server.wait_for(lambda: "UNLOADING" not in index(server).values())
            sizes.append(resident_bytes(server))
        assert max(sizes) - min(sizes) < ballast


def test_processes_follow_the_folder_and_none_is_changed_alone(tmp_path: Path) -> None:
    models = tmp_path / "models"
    write_classifier(models, "m", 1)
    keys = setting(entry("root", "root-key", admin=True))
    with served(tmp_path, watch_interval=INTERVAL, processes=2, api_keys=keys) as server:
        # Nobody asked for the default of 8, of which the model takes 4.
        assert "is not used" not in server.log.read_text()
        for change in ("load", "unload"):
            path = f"{server.url}/v2/repository/models/m/{change}"
            answer = httpx.post(path, headers=bearer("root-key"))
            assert answer.status_code == 501
            assert "CLIPSERVE_WATCH_INTERVAL" in answer.json()["error"]
        write_classifier(tmp_path / "elsewhere", "m", 2).rename(models / "m/2")
        server.wait_for(lambda: server.log.read_text().count("unloaded m/1") == 2)
        for _ in range(8):
            answer = httpx.post(f"{server.url}/v1/classify", content=PICTURE, headers=bearer("root-key"), timeout=60)
            assert (answer.status_code, answer.json()["version"]) == (200, "2")

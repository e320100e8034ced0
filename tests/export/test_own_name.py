"""`clipserve export --name`: a model that goes by another name than its network."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import httpx
import pytest

from export.artefact import make_request
from export.errors import ExportError
from export.resume import finished
from tests.server import ROOT, serving

NETWORK, OWN = "uniformer_tiny_shapes", "turning_shapes"
CHECKPOINT = ROOT / f"demo/weights/{NETWORK}.safetensors"


def export(*arguments: str | Path) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "service.cli", "export", *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, cwd=ROOT, check=False)


@pytest.fixture(scope="module")
def repository(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One network under its own name and under another."""
    repository = tmp_path_factory.mktemp("repository")
    for more in ([], ["--name", OWN]):
        run = export(NETWORK, "--checkpoint", CHECKPOINT, "--max-batch-size", "1", "--out", repository, *more)
        assert run.returncode == 0, run.stderr
    return repository


def test_server_answers_under_the_given_name(repository: Path, tmp_path: Path) -> None:
    clip = (ROOT / "demo/media/sample.mp4").read_bytes()
    with serving(tmp_path, repository=repository) as server:
        names = {model["name"] for model in httpx.get(f"{server.url}/v1/models").json()["models"]}
        answers = [
            httpx.post(f"{server.url}/v1/models/{name}/classify", content=clip).json() for name in (NETWORK, OWN)
        ]
    assert names == {NETWORK, OWN}
    assert [answer["model"] for answer in answers] == [NETWORK, OWN]
    assert answers[0]["predictions"] == answers[1]["predictions"]


def test_manifest_tells_the_network(repository: Path) -> None:
    manifests = [json.loads((repository / name / "1/manifest.json").read_text()) for name in (NETWORK, OWN)]
    assert [manifest["name"] for manifest in manifests] == [NETWORK, OWN]
    assert [manifest["network"] for manifest in manifests] == [None, NETWORK]


def test_each_name_is_resumed_by_itself(repository: Path) -> None:
    requests = [
        make_request(NETWORK, CHECKPOINT, max_batch_size=1, served_as=name) for name in (None, OWN, "a_third_name")
    ]
    kept = [artefact and artefact.manifest.name for artefact in (finished(each, repository) for each in requests)]
    assert kept == [NETWORK, OWN, None]


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("../elsewhere", r"cannot be called '../elsewhere'"),
        ("Shapes", r"cannot be called 'Shapes'"),
        ("mvit_b_16x4_k400", r"the name of another network than uniformer_tiny_shapes"),
    ],
)
def test_name_that_says_something_else_is_refused(name: str, reason: str) -> None:
    with pytest.raises(ExportError, match=reason):
        make_request(NETWORK, CHECKPOINT, served_as=name)


def test_one_name_is_for_one_model(tmp_path: Path) -> None:
    run = export("*_tiny_shapes", "--name", OWN, "--out", tmp_path)
    assert run.returncode == 1
    assert "export them one at a time" in run.stderr
    assert not list(tmp_path.iterdir())

"""A model that was exported without a checkpoint: what the log, the list of models and the doctor say of it."""

from __future__ import annotations

import shutil
from pathlib import Path

import httpx
import pytest

from tests.command import clipserve, finding
from tests.server import ROOT, serving

NAME = "smlpnet_tiny_shapes"


@pytest.fixture(scope="module")
def repository(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A repository with a trained version 1 and a version 2 that was exported without a checkpoint."""
    folder = tmp_path_factory.mktemp("untrained")
    shutil.copytree(ROOT / "model_repository" / NAME / "1", folder / "repository" / NAME / "1")
    run = clipserve("export", NAME, "--out", str(folder / "repository"), "--max-batch-size", "1")
    assert run.returncode == 0, run.stderr
    return folder / "repository"


def trained(url: str) -> list[bool | None]:
    (model,) = httpx.get(f"{url}/v1/models").json()["models"]
    assert [version["version"] for version in model["versions"]] == ["1", "2"]
    return [version["trained"] for version in model["versions"]]


def test_untrained_version_is_told_from_a_trained_one(repository: Path, tmp_path: Path) -> None:
    with serving(tmp_path, repository=repository, versions="all") as server:
        assert trained(server.url) == [True, False]
        lines = [line for line in server.log.read_text().splitlines() if "untrained weights" in line]
    (line,) = lines
    assert "WARNING" in line
    assert f"{NAME}/2: untrained weights, its answers mean nothing" in line


def test_version_that_is_not_loaded_is_neither(repository: Path, tmp_path: Path) -> None:
    with serving(tmp_path, repository=repository, versions="[1]") as server:
        assert trained(server.url) == [True, None]
        assert "untrained" not in server.log.read_text()


def test_doctor_names_the_untrained_version(repository: Path) -> None:
    run = clipserve("doctor", "--repository", str(repository))
    assert run.returncode == 0, "it can be served all the same"
    assert "fp32 runs" in finding(run, f"{NAME}/2")
    (line,) = [line for line in run.stdout.splitlines() if "untrained weights" in line]
    assert line.split(maxsplit=1)[0] == f"{NAME}/2"
    assert "its answers mean nothing: export it with `--checkpoint`" in line

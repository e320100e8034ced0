"""`clipserve models` and the folder that it looks for artefacts in."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from models import list_models
from tests.classifier import write_classifier
from tests.command import clipserve

NAME = "uniformer_tiny_shapes"


def test_version_needs_a_number_and_a_manifest(tmp_path: Path) -> None:
    for version in (10, 2):
        write_classifier(tmp_path, NAME, version)
    for name in ("3", "x"):
        (tmp_path / NAME / name).mkdir()
    run = clipserve("models", "--repository", str(tmp_path))
    assert (run.returncode, run.stderr) == (0, "")
    (line,) = (line for line in run.stdout.splitlines() if line.split()[0] == NAME)
    assert line.endswith("  2, 10")


def test_pattern_lists_what_matches_and_pose_is_said_not_to_be_served() -> None:
    run = clipserve("models", "uniformer_s_p*")
    assert (run.returncode, run.stderr) == (0, "")
    _, *rows = run.stdout.splitlines()
    names = [name for name in list_models() if name.startswith("uniformer_s_p")]
    assert [row.split()[0] for row in rows] == names
    unserved = [name for name, row in zip(names, rows, strict=True) if row.endswith("  not served yet")]
    assert unserved == ["uniformer_s_pose_coco"]
    assert "the server does not answer this task yet" in clipserve("models", "uniformer_s_pose_coco").stdout


def test_pattern_that_nothing_matches_is_named() -> None:
    run = clipserve("models", "resnet*")
    assert (run.returncode, run.stdout) == (1, "")
    assert run.stderr == "clipserve models: no model matches 'resnet*'; `clipserve models` lists them all\n"


@pytest.mark.parametrize("names", [[], [NAME]])
def test_folder_that_is_missing_is_named(tmp_path: Path, names: list[str]) -> None:
    run = clipserve("models", *names, "--repository", str(tmp_path / "missing"))
    assert run.returncode == 0
    assert NAME in run.stdout
    assert run.stderr == f"clipserve models: there is no folder {tmp_path / 'missing'} to look for artefacts in\n"


@pytest.mark.parametrize("names", [[], [NAME]])
@pytest.mark.parametrize("closed", [NAME, f"{NAME}/1"])
def test_folder_that_cannot_be_read_is_named(tmp_path: Path, closed: str, names: list[str]) -> None:
    write_classifier(tmp_path, NAME, 1)
    (tmp_path / closed).chmod(0)
    run = clipserve("models", *names, "--repository", str(tmp_path), privileged=False)
    (tmp_path / closed).chmod(0o700)
    assert (run.returncode, run.stdout) == (1, "")
    assert f"{tmp_path / closed}" in run.stderr
    assert run.stderr.endswith(f" cannot be read by user id {os.geteuid()}: Permission denied\n")

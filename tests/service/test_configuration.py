"""Settings from options, environment and file, as a user gives them."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.server import ROOT


def clipserve(*arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "service.cli", *arguments],
        capture_output=True,
        text=True,
        cwd=ROOT,
        env={**os.environ, **environment},
        check=False,
        timeout=120,
    )


def finding(run: subprocess.CompletedProcess[str], name: str) -> str:
    match = re.search(rf"^  {re.escape(name)} +(.+)$", run.stdout, re.MULTILINE)
    assert match, f"{name} is not in {run.stdout}"
    return match[1]


def write(folder: Path, text: str) -> Path:
    file = folder / "clipserve.toml"
    file.write_text(text)
    return file


def test_option_wins_over_environment_over_file_over_default(tmp_path: Path) -> None:
    file = write(
        tmp_path,
        """
        max_views = 1
        max_frames = 1
        max_seconds = 1
        batch_sizes = [1, 4]
        [models.uniformer_tiny_shapes]
        max_batch_size = 4
        """,
    )
    environment = {"CLIPSERVE_MAX_VIEWS": "2", "CLIPSERVE_MAX_FRAMES": "2", "CLIPSERVE_CONFIG": str(file)}
    run = clipserve("doctor", "--max-views", "3", **environment)
    assert finding(run, "file") == str(file)
    assert finding(run, "max_views") == "3 (option)"
    assert finding(run, "max_frames") == "2 (environment)"
    assert finding(run, "max_seconds") == "1.0 (file)"
    assert finding(run, "batch_sizes") == "(1, 4) (file)"
    assert finding(run, "models").endswith("(file)")
    assert finding(run, "max_pixels") == "50000000 (default)"


def test_option_names_another_file_than_the_environment(tmp_path: Path) -> None:
    file = write(tmp_path, "max_views = 5")
    run = clipserve("doctor", "--config", str(file), CLIPSERVE_CONFIG="/no/such/file")
    assert finding(run, "max_views") == "5 (file)"


@pytest.mark.parametrize(
    ("text", "complaints"),
    [
        ("max_views = 0", ["max_views=0", "greater than 0"]),
        ("max_veiws = 3", ["max_veiws", "did you mean max_views?"]),
        ("_cli_parse_args = true", ["_cli_parse_args", "no setting is called so"]),
        ("port = 70000\nmax_views = 'many'", ["port=70000", "65535", "max_views='many'", "integer"]),
        ("[models.m]\nmax_batch = 4", ["models.m.max_batch=4", "not permitted"]),
        ("max_views =", ["not TOML", "Invalid value"]),
    ],
)
def test_what_is_wrong_in_a_file_is_named(tmp_path: Path, text: str, complaints: list[str]) -> None:
    file = write(tmp_path, text)
    run = clipserve("serve", "--config", str(file))
    assert run.returncode == 2
    assert "Traceback" not in run.stderr
    for complaint in [str(file), *complaints]:
        assert complaint in run.stderr


@pytest.mark.parametrize("file", ["/no/such/file", "/"])
def test_file_that_cannot_be_read_is_named(file: str) -> None:
    run = clipserve("serve", CLIPSERVE_CONFIG=file)
    assert (run.returncode, run.stderr) == (2, f"clipserve: file {file}: there is no such file\n")


def test_wrong_value_in_environment_or_option_says_so() -> None:
    run = clipserve("serve", "--max-views", "none", CLIPSERVE_PORT="70000")
    assert run.returncode == 2
    assert "environment: port='70000'" in run.stderr
    assert "option: max_views='none'" in run.stderr

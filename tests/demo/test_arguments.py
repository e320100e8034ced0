"""The command lines of the demo, the benchmarks and the load test."""

import re
import subprocess
import sys

import pytest

from tests.server import ROOT

FOLDERS = ("bench", "demo", "loadtest", "loadtest/peers")
# What is committed, and who replaces it.
REPLACED = {
    "demo.export": "model_repository",
    "demo.samples": "demo/media",
    "demo.train": "demo/weights",
    "demo.train_segmentation": "demo/weights",
}


def run(module: str, argument: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", module, argument], capture_output=True, text=True, cwd=ROOT, check=False, timeout=180
    )


@pytest.mark.parametrize(("module", "folder"), REPLACED.items())
def test_help_does_nothing_but_tell_what_is_replaced(module: str, folder: str) -> None:
    before = {file: file.stat().st_mtime_ns for file in (ROOT / folder).rglob("*")}
    told = run(module, "--help")
    assert told.returncode == 0, told.stderr
    # Paths may be broken over lines.
    assert re.search(rf"Replaces.*{folder}", re.sub(r"\s+", "", told.stdout))
    assert {file: file.stat().st_mtime_ns for file in (ROOT / folder).rglob("*")} == before


def test_every_program_reads_its_command_line() -> None:
    sources = {file: file.read_text() for folder in FOLDERS for file in (ROOT / folder).glob("*.py")}
    programs = {file.name: source for file, source in sources.items() if 'if __name__ == "__main__"' in source}
    # mosec does it for its server.
    assert {name for name, source in programs.items() if ".ArgumentParser(" not in source} == {"mosec_app.py"}


@pytest.mark.parametrize(
    ("module", "names"), [("bench.serving", "throughput, throughput_hd"), ("loadtest.peers", "clipserve, wrapper")]
)
def test_name_that_does_not_exist_is_answered_with_those_that_do(module: str, names: str) -> None:
    told = run(module, "nope")
    assert told.returncode == 2
    assert f"'nope' is none of {names}" in told.stderr
    assert "[]" not in told.stderr.splitlines()[-1]

"""`make loadtest`: what is measured, and what is written about it."""

import json
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from loadtest import __main__ as command
from service.machine import cpu_model
from tests.keys import entry, setting
from tests.server import ROOT, link_models


@pytest.fixture
def results(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """The folder of the results, in which those of an older run lie; one clip is sent."""
    folder, clips = tmp_path / "results", tmp_path / "clips"
    for made in (folder, clips):
        made.mkdir()
    (folder / "old").touch()
    (clips / "sample.mp4").symlink_to(ROOT / "demo/media/sample.mp4")
    monkeypatch.setattr(command, "RESULTS", folder)
    monkeypatch.setenv("CLIPSERVE_CLIPS", str(clips))
    monkeypatch.chdir(ROOT)
    handlers = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGHUP)}
    yield folder
    for number, handler in handlers.items():
        signal.signal(number, handler)


def test_summary_says_what_was_measured(
    results: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    repository = link_models(tmp_path)
    # By name it comes first.
    (repository / "mlp3d_tiny_shapes").symlink_to(ROOT / "model_repository/mlp3d_tiny_shapes")
    monkeypatch.setenv("CLIPSERVE_REPOSITORY", str(repository))
    command.main(["--users", "2", "--duration", "3s"])
    summary = json.loads((results / "summary.json").read_text())
    assert summary["model"] == "uniformer_tiny_shapes/1"
    assert summary["cpu"] == cpu_model()
    head = subprocess.run(["git", "rev-parse", "HEAD"], capture_output=True, text=True, cwd=ROOT, check=False).stdout
    assert (summary["commit"] or "").removesuffix("-dirty") == head.strip()
    assert (summary["users"], summary["clips_in_turn"], summary["errors"]) == (2, 1, 0)
    assert summary["clips"] > 0
    printed = capfd.readouterr().out
    assert all(str(summary[name]) in printed for name in ("model", "cpu", "commit"))
    written = {file.name for file in results.iterdir()}
    assert {"summary.json", "server.log", "locust.log", "locust_stats.csv"} <= written
    assert "old" not in written


def test_key_is_shown_to_a_server_that_wants_one(
    results: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CLIPSERVE_REPOSITORY", str(link_models(tmp_path)))
    monkeypatch.setenv("CLIPSERVE_API_KEYS", setting(entry("load", "a-key-of-the-load-test")))
    monkeypatch.setenv("CLIPSERVE_API_KEY", "a-key-of-the-load-test")
    command.main(["--users", "1", "--duration", "2s"])
    summary = json.loads((results / "summary.json").read_text())
    assert summary["errors"] == 0
    assert summary["clips"] > 0


def test_server_that_does_not_start_says_why(results: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "empty").mkdir()
    monkeypatch.setenv("CLIPSERVE_REPOSITORY", str(tmp_path / "empty"))
    with pytest.raises(SystemExit, match=r"ended with status \d+ before it was ready: [\s\S]*empty"):
        command.main([])


@pytest.mark.parametrize(("chosen", "expected"), [(None, None), ("another", "another")])
def test_repository_without_the_demo_s_model_is_measured_as_it_is(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, chosen: str | None, expected: str | None
) -> None:
    monkeypatch.setenv("CLIPSERVE_REPOSITORY", str(tmp_path))
    if chosen:
        monkeypatch.setenv("CLIPSERVE_DEFAULT_MODEL", chosen)
    assert command.default_model() == expected

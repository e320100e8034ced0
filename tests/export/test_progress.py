"""Bars for people who look at a terminal, and children that report their parts."""

import os
import pty
import subprocess
import sys
import termios
from pathlib import Path

import pytest

from export.errors import ExportError
from export.progress import run_module

ROOT = Path(__file__).parents[2]
BAR = "from export.progress import tracked; print(sum(tracked([1, 2, 3], 'view')))"
LONG_STEP = """
import time
import export.progress
export.progress.LINE_SECONDS = 1
for seconds in export.progress.tracked([0, 1.1, 0, 0], "view"):
    time.sleep(seconds)
"""
CALIBRATION = """
import numpy, onnx
from export.quantization import quantise_everything
from tests.export.test_precisions import layers_in_a_row
views = layers_in_a_row("{folder}/model.onnx", 2)
quantise_everything("{folder}/model.onnx", "{folder}/model.int8.onnx", list(views))
"""
ENGINE = """
from contextlib import suppress
from pathlib import Path
from export.engines import check_engine
from export.errors import ExportError
with suppress(ExportError):
    check_engine("tensorrt_rtx", "uniformer_tiny_shapes", Path("{folder}/model.onnx"), "fp32", 2)
"""


def shown_by(code: str) -> tuple[bytes, str]:
    """Return what a process printed, and what it showed on a terminal that is its standard error."""
    terminal, errors = pty.openpty()
    termios.tcsetwinsize(errors, (24, 80))
    run = subprocess.run([sys.executable, "-c", code], stdout=subprocess.PIPE, stderr=errors, cwd=ROOT, check=True)
    os.close(errors)
    os.set_blocking(terminal, False)
    try:
        shown = os.read(terminal, 10_000).decode()
    except OSError:  # nothing
        shown = ""
    os.close(terminal)
    return run.stdout, shown


def test_terminal_gets_a_bar() -> None:
    printed, shown = shown_by(BAR)
    assert printed == b"6\n"
    assert "/3 " in shown
    assert "view" in shown


def test_calibration_has_a_bar_over_its_views(tmp_path: Path) -> None:
    _, shown = shown_by(CALIBRATION.format(folder=tmp_path))
    assert "/6 " in shown
    assert "view" in shown


def test_building_of_an_engine_which_tells_of_no_parts_has_none(tmp_path: Path) -> None:
    assert shown_by(ENGINE.format(folder=tmp_path)) == (b"", "")


def test_file_or_pipe_gets_none() -> None:
    run = subprocess.run([sys.executable, "-c", BAR], capture_output=True, cwd=ROOT, check=True)
    assert (run.stdout, run.stderr) == (b"6\n", b"")


def test_log_of_a_long_step_gets_a_line_now_and_then() -> None:
    run = subprocess.run([sys.executable, "-c", LONG_STEP], capture_output=True, text=True, cwd=ROOT, check=True)
    assert run.stderr == "  2 of 4 views\n"


def test_output_of_a_child_comes_without_its_dots(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "child.py").write_text("import sys\nprint('.\\n.')\nprint(sys.stdin.read() + sys.argv[1])")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    assert run_module(["child", "argument"], 2, "part", "content and ") == "content and argument\n"


def test_child_takes_no_module_from_the_present_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "json.py").write_text("raise SystemExit('not this one')")
    monkeypatch.chdir(tmp_path)
    assert run_module(["json.tool", "--compact"], content="[1]") == "[1]\n"


def test_child_that_fails_is_quoted() -> None:
    with pytest.raises(ExportError, match="Expecting value"):
        run_module(["json.tool"], 1, "part", "no JSON")
    with pytest.raises(ExportError, match="No module named no_such_module"):
        run_module(["no_such_module"], 1, "part", "nobody reads this" * 100_000)


@pytest.mark.parametrize(
    ("number", "told"),
    [("SIGKILL", "status -9; the kernel kills what takes too much memory: buy some$"), ("SIGTERM", "status -15$")],
)
def test_child_that_is_killed_leaves_its_status(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: str, told: str
) -> None:
    (tmp_path / "killed.py").write_text(f"import os, signal; os.kill(os.getpid(), signal.{number})")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    with pytest.raises(ExportError, match=f"its process ended with {told}"):
        run_module(["killed"], 1, "part", relief="buy some")

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


def test_terminal_gets_a_bar() -> None:
    terminal, errors = pty.openpty()
    termios.tcsetwinsize(errors, (24, 80))
    run = subprocess.run([sys.executable, "-c", BAR], stdout=subprocess.PIPE, stderr=errors, cwd=ROOT, check=True)
    os.set_blocking(terminal, False)
    shown = os.read(terminal, 10_000).decode()
    os.close(errors)
    os.close(terminal)
    assert run.stdout == b"6\n"
    assert "/3 " in shown
    assert "view" in shown


def test_file_or_pipe_gets_none() -> None:
    run = subprocess.run([sys.executable, "-c", BAR], capture_output=True, cwd=ROOT, check=True)
    assert (run.stdout, run.stderr) == (b"6\n", b"")


def test_output_of_a_child_comes_without_its_dots(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "child.py").write_text("import sys\nprint('.\\n.')\nprint(sys.stdin.read() + sys.argv[1])")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    assert run_module(["child", "argument"], 2, "part", "content and ") == "content and argument\n"


def test_child_that_fails_is_quoted() -> None:
    with pytest.raises(ExportError, match="Expecting value"):
        run_module(["json.tool"], 1, "part", "no JSON")
    with pytest.raises(ExportError, match="No module named no_such_module"):
        run_module(["no_such_module"], 1, "part", "nobody reads this" * 100_000)


def test_child_that_is_killed_leaves_its_status(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "killed.py").write_text("import os, signal; os.kill(os.getpid(), signal.SIGKILL)")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    with pytest.raises(ExportError, match="its process ended with status -9"):
        run_module(["killed"], 1, "part")

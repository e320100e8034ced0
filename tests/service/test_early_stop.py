"""A server that is stopped while it starts, by a signal to all of its processes, as Ctrl-C and systemd send it."""

import os
import signal
from contextlib import suppress
from pathlib import Path

import pytest

from tests.processes import children
from tests.server import RunningServer, starting


def processes(pid: int) -> list[int]:
    """Return a process and all below it."""
    return [pid, *(below for child in children(pid) for below in processes(child))]


def end_of(server: RunningServer, number: signal.Signals) -> tuple[int, str]:
    """Signal all processes of a server and return its exit status and its log."""
    for pid in processes(server.process.pid):
        # One that was signalled before may have ended those below it.
        with suppress(ProcessLookupError):
            os.kill(pid, number)
    return server.process.wait(30), server.log.read_text()


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_stop_while_decode_workers_start_is_no_failure(tmp_path: Path, number: signal.Signals) -> None:
    with starting(tmp_path, decode_workers=2) as server:
        server.wait_for(lambda: len(server.worker_pids()) == 2)
        status, log = end_of(server, number)
    assert status == 0, log
    assert "Traceback" not in log
    assert "cannot start" not in log


def test_stop_while_several_server_processes_start_is_no_failure(tmp_path: Path) -> None:
    with starting(tmp_path, decode_workers=1, processes=2) as server:
        server.wait_for(lambda: len(children(server.process.pid)) == 2)
        status, log = end_of(server, signal.SIGTERM)
    assert status == 0, log
    assert "Traceback" not in log
    assert "failed to start" not in log


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_stop_before_anything_runs_is_no_failure(tmp_path: Path, number: signal.Signals) -> None:
    with starting(tmp_path) as server:
        server.wait_for(lambda: "will listen" in server.log.read_text())
        status, log = end_of(server, number)
    assert status == 0, log
    assert "Traceback" not in log

"""Start real servers for tests, as a user does, and find their processes."""

from __future__ import annotations

import gc
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from threading import Thread
from typing import TypeVar

import httpx
import pytest
from fastapi import FastAPI

from demo.local_server import free_port
from service.server import Server
from service.settings import Settings
from tests.processes import decode_workers
from tests.waiting import wait_for

T = TypeVar("T")

ROOT = Path(__file__).parents[1]
REPOSITORY = ROOT / "model_repository"
# What most tests need: one model that classifies and one that segments.
SERVED = ("uniformer_tiny_shapes", "uniformer_tiny_shapes_fpn")


class RunningServer:
    """A `clipserve serve` process on a loopback port."""

    def __init__(self, process: subprocess.Popen[bytes], url: str, log: Path) -> None:
        self.process = process
        self.url = url
        self.log = log

    def worker_pids(self) -> list[int]:
        """Return the process numbers of the decode workers."""
        return sorted(decode_workers(self.process.pid))

    def wait_for(self, condition: Callable[[], T | None]) -> T:
        """Wait until something is so; if it does not come, the failure shows the log."""
        return wait_for(condition, report=self.log.read_text)

    def metrics(self) -> str:
        """Return the exposition of its metrics."""
        return httpx.get(f"{self.url}/metrics").text

    def terminate(self) -> int:
        """Send SIGTERM and return the exit status."""
        self.process.send_signal(signal.SIGTERM)
        return self.process.wait(30)


def unless(answer: httpx.Response, status: int) -> httpx.Response | None:
    """Return an answer, but nothing if it has that status: what waits goes on waiting."""
    return None if answer.status_code == status else answer


def link_models(folder: Path) -> Path:
    """Return a repository in `folder` with the SERVED models of the committed one alone: it is loaded sooner."""
    repository = folder / "served_models"
    if not repository.is_dir():
        repository.mkdir()
        for name in SERVED:
            (repository / name).symlink_to(REPOSITORY / name)
    return repository


@contextmanager
def serving(folder: Path, **settings: object) -> Iterator[RunningServer]:
    """Run a server until the block ends, which begins when it is ready; otherwise as `starting`."""
    with starting(folder, **settings) as server:
        wait_until_ready(server)
        yield server


@contextmanager
def starting(folder: Path, **settings: object) -> Iterator[RunningServer]:
    """Start a server with the given settings and run it until the block ends; its log goes to `folder`.

    Unless a setting says so, it serves SERVED alone and does not linger at its end.
    """
    port, log = free_port(), folder / "server.log"
    settings = {"drain_delay": 0, **settings}
    if "repository" not in settings:
        settings["repository"] = link_models(folder)
    environment = {**os.environ, **{f"CLIPSERVE_{key.upper()}": str(value) for key, value in settings.items()}}
    with log.open("wb") as output:
        process = subprocess.Popen(
            [sys.executable, "-m", "service.cli", "serve", "--port", str(port)],
            cwd=ROOT,
            env=environment,
            stdout=output,
            stderr=output,
        )
    server = RunningServer(process, f"http://127.0.0.1:{port}", log)
    try:
        yield server
    finally:
        if process.poll() is None:
            server.terminate()


def is_alive(server: RunningServer) -> bool:
    """Tell whether a server that starts answers yet; it must not have ended."""
    assert server.process.poll() is None, server.log.read_text()
    try:
        return httpx.get(f"{server.url}/healthz").status_code == 200
    except httpx.TransportError:
        return False


def hold_at_begin(folder: Path, monkeypatch: pytest.MonkeyPatch, program: str) -> Path:
    """Have Python run `program` at the begin of every process, with the path of a file in place of its `{!r}`.

    The file is not there: what the program holds goes on when the test makes it.
    """
    may_go_on = folder / "go_on"
    # Python imports a module of this name by itself.
    (folder / "sitecustomize.py").write_text(program.format(str(may_go_on)))
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(folder), os.environ.get("PYTHONPATH", "")]))
    return may_go_on


@contextmanager
def running(app: FastAPI, settings: Settings) -> Iterator[str]:
    """Run an application that a test has changed within this process, and yield its address."""
    port = free_port()
    server = Server(app, settings.model_copy(update={"port": port, "drain_delay": 0}))
    thread = Thread(target=server.run)
    thread.start()
    try:
        wait_for(lambda: not thread.is_alive() or (server.started and not app.state.server.problem))
        assert thread.is_alive()
        yield f"http://127.0.0.1:{port}"
    finally:
        server.should_exit = True
        thread.join(30)
        # The application froze what this process held, and libraries of tests look through it.
        gc.unfreeze()


@contextmanager
def begun_upload(server: RunningServer, content: bytes, sent: int) -> Iterator[socket.socket]:
    """Yield the connection of a classification that has sent so many bytes of its content and was accepted."""
    host, port = server.url.removeprefix("http://").split(":")
    with socket.create_connection((host, int(port)), timeout=30) as connection:
        head = f"POST /v1/classify HTTP/1.1\r\nHost: x\r\nContent-Length: {len(content)}\r\n\r\n"
        connection.sendall(head.encode() + content[:sent])
        server.wait_for(lambda: "clipserve_requests_in_flight 0.0" not in server.metrics())
        yield connection


def wait_until_ready(server: RunningServer, seconds: float = 120) -> None:
    def ready() -> bool:
        assert server.process.poll() is None, server.log.read_text()
        try:
            return httpx.get(f"{server.url}/readyz").status_code == 200
        except httpx.TransportError:
            return False

    wait_for(ready, seconds, server.log.read_text)

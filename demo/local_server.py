"""Run `clipserve serve` as a process of its own for as long as a block lasts."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from types import FrameType

START_SECONDS = 120
# Past any proxy that the environment names: the address is this machine.
DIRECT = urllib.request.build_opener(urllib.request.ProxyHandler({}))


@dataclass(frozen=True)
class LocalServer:
    """A running server.

    Attributes:
        port: Where it listens on the loopback address.
        pid: Process number of the server itself; its decode workers are others.
    """

    port: int
    pid: int

    @property
    def url(self) -> str:
        """Its address."""
        return f"http://127.0.0.1:{self.port}"


def end_on_signals() -> None:
    """Have a closed terminal and a plain `kill` end this process as an exception does, so that its server ends too."""

    def end(number: int, _: FrameType | None) -> None:
        raise SystemExit(128 + number)

    for number in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, end)


def free_port() -> int:
    """Return a port of the loopback address that nobody listened on just now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
    return port


@contextmanager
def local_server(port: int | None = None, *, log: Path | None = None, **settings: object) -> Iterator[LocalServer]:
    """Start a server, yield it once it is ready, stop it at the end.

    Args:
        port: Where it listens; None: on a free port.
        log: File for what it writes; None: that goes where this process writes.
        settings: By name, as in service.settings; the environment's stand where nothing or None is given.

    Raises:
        SystemExit: It did not become ready; what it wrote says why.
    """
    port = port or free_port()
    # Nobody but this process knows the server: it need not linger at its end.
    settings = {"drain_delay": 0, **settings, "port": port}
    given = {f"CLIPSERVE_{name.upper()}": str(value) for name, value in settings.items() if value is not None}
    environment = {**os.environ, **given}
    with log.open("wb") if log else nullcontext() as output:
        process = subprocess.Popen(
            [sys.executable, "-m", "service.cli", "serve"], env=environment, stdout=output, stderr=output
        )
    server = LocalServer(port, process.pid)
    try:
        if not becomes_ready(process, f"{server.url}/readyz"):
            raise SystemExit(_why_not_ready(process, log))
        yield server
    finally:
        process.terminate()
        process.wait()


def _why_not_ready(process: subprocess.Popen[bytes], log: Path | None) -> str:
    reason = f"the server was not ready after {START_SECONDS} s"
    if process.poll() is not None:
        reason = f"the server ended with status {process.returncode} before it was ready"
    return f"{reason}: {log.read_text(errors='replace')[-3000:]}" if log else reason


def becomes_ready(process: subprocess.Popen[bytes], url: str) -> bool:
    """Return whether a server that was started answers at the address with 200, within START_SECONDS."""
    deadline = time.monotonic() + START_SECONDS
    while time.monotonic() < deadline and process.poll() is None:
        try:
            with DIRECT.open(url, timeout=5):
                ready = True
        except OSError:
            ready = False
        # Somebody else's server on the port would answer too; ours has then ended.
        if ready and process.poll() is None:
            return True
        time.sleep(0.1)
    return False

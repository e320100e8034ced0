"""Run `clipserve serve` as a process of its own for as long as a block lasts."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

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


def free_port() -> int:
    """Return a port of the loopback address that nobody listened on just now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
    return port


@contextmanager
def local_server(port: int | None = None, **settings: object) -> Iterator[LocalServer]:
    """Start a server, yield it once it is ready, stop it at the end.

    Args:
        port: Where it listens; None: on a free port.
        settings: By name, as in service.settings; the environment's stand where nothing is given.

    Raises:
        SystemExit: It did not become ready; its own output says why.
    """
    port = port or free_port()
    # Nobody but this process knows the server: it need not linger at its end.
    settings = {"drain_delay": 0, **settings, "port": port}
    environment = {**os.environ, **{f"CLIPSERVE_{name.upper()}": str(value) for name, value in settings.items()}}
    process = subprocess.Popen([sys.executable, "-m", "service.cli", "serve"], env=environment)
    server = LocalServer(port, process.pid)
    try:
        if not becomes_ready(process, f"{server.url}/readyz"):
            if process.poll() is not None:
                raise SystemExit(f"the server ended with status {process.returncode} before it was ready")
            raise SystemExit(f"the server was not ready after {START_SECONDS} s")
        yield server
    finally:
        process.terminate()
        process.wait()


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

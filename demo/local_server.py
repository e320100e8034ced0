"""Run `clipserve serve` as a process of its own for as long as a block lasts."""

from __future__ import annotations

import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager

START_SECONDS = 120
# Past any proxy that the environment names: the address is this machine.
DIRECT = urllib.request.build_opener(urllib.request.ProxyHandler({}))


@contextmanager
def local_server(port: int) -> Iterator[str]:
    """Start a server on `port`, yield its address once it is ready, stop it at the end.

    Raises:
        SystemExit: It did not become ready; its own output says why.
    """
    address = f"http://127.0.0.1:{port}"
    # Nobody but this process knows the server: it need not linger at its end.
    command = [sys.executable, "-m", "service.cli", "serve", "--port", str(port), "--drain-delay", "0"]
    process = subprocess.Popen(command)  # noqa: S603
    try:
        _wait_until_ready(process, address)
        yield address
    finally:
        process.terminate()
        process.wait()


def _wait_until_ready(process: subprocess.Popen[bytes], address: str) -> None:
    deadline = time.monotonic() + START_SECONDS
    while time.monotonic() < deadline:
        if process.poll() is not None:
            raise SystemExit(f"the server ended with status {process.returncode} before it was ready")
        try:
            with DIRECT.open(f"{address}/readyz", timeout=5):
                ready = True
        except OSError:
            ready = False
        # Somebody else's server on the port would answer too; ours has then ended.
        if ready and process.poll() is None:
            return
        time.sleep(0.1)
    raise SystemExit(f"the server was not ready after {START_SECONDS} s")

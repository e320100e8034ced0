"""Where the server listens, and what it says if it cannot."""

import asyncio
import os
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any

import httpx
import pytest

from demo.local_server import free_port
from service.listening import bind
from tests.command import clipserve
from tests.server import ROOT, RunningServer, link_models, wait_until_ready


@pytest.mark.parametrize("processes", ["1", "2"])
def test_address_that_cannot_be_listened_on_ends_the_start_with_one_line(processes: str) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        reasons = {
            ("127.0.0.1", str(taken.getsockname()[1])): "in use; stop who listens there, or choose another with --port",
            # No such name can exist (RFC 6761).
            ("nope.invalid", "8000"): "Name or service not known",
            # A part of a name has 63 letters at most (RFC 1035).
            ("x" * 64, "8000"): "label too long",
        }
        for (host, port), reason in reasons.items():
            ended = clipserve("serve", "--processes", processes, "--host", host, "--port", port)
            (line,) = ended.stderr.splitlines()
            assert ended.returncode == 1
            assert f"cannot listen on {host} port {port}: " in line
            assert reason in line


@pytest.mark.parametrize("processes", [1, 2])
@pytest.mark.parametrize("closed", ["<&-", "<&- >&-", "<&- >&- 2>&-"])
def test_server_starts_without_standard_streams(tmp_path: Path, processes: int, closed: str) -> None:
    port = free_port()
    command = [sys.executable, "-m", "service.cli", "serve", "--processes", str(processes), "--port", str(port)]
    process = subprocess.Popen(
        ["sh", "-c", f'exec "$@" {closed}', "sh", *command, "--decode-workers", "1", "--drain-delay", "0"],
        cwd=ROOT,
        env=os.environ | {"CLIPSERVE_REPOSITORY": str(link_models(tmp_path))},
        stderr=subprocess.DEVNULL,
    )
    server = RunningServer(process, f"http://127.0.0.1:{port}", Path(os.devnull))
    try:
        wait_until_ready(server)
        clip = (ROOT / "demo/media/sample.mp4").read_bytes()
        assert httpx.post(f"{server.url}/v1/classify", content=clip, timeout=60).status_code == 200
        assert server.terminate() == 0
    finally:
        process.kill()
        process.wait()


def test_every_address_of_a_name_is_bound_to_one_port(monkeypatch: pytest.MonkeyPatch) -> None:
    addresses: list[tuple[Any, ...]] = [("127.0.0.1", 0), ("127.0.0.2", 0), ("127.0.0.1", 0)]
    found = [(socket.AF_INET, socket.SOCK_STREAM, 6, "", address) for address in addresses]
    monkeypatch.setattr(socket, "getaddrinfo", lambda *_, **__: found)
    listeners = bind("twice.example", 0)
    try:
        hosts, ports = zip(*(listener.getsockname() for listener in listeners), strict=True)
    finally:
        for listener in listeners:
            listener.close()
    assert hosts == ("127.0.0.1", "127.0.0.2")
    assert len(set(ports)) == 1


def test_what_is_written_to_a_connection_is_sent_at_once() -> None:
    """Otherwise the second part of an answer waits for the client's delayed acknowledgement of the first, 40 ms."""

    async def scenario() -> None:
        (listener,) = bind("127.0.0.1", 0)
        accepted: asyncio.Queue[asyncio.StreamWriter] = asyncio.Queue()
        async with await asyncio.start_server(lambda _, writer: accepted.put_nowait(writer), sock=listener):
            _, client = await asyncio.open_connection(*listener.getsockname())
            connection = await accepted.get()
            assert connection.get_extra_info("socket").getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)
            for writer in (client, connection):
                writer.close()

    asyncio.run(scenario())

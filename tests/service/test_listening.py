"""Where the server listens, and what it says if it cannot."""

import asyncio
import socket
from typing import Any

import pytest

from service.listening import bind
from tests.command import clipserve


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

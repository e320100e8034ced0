"""Clients that send a request before they have the answer to the last, against a real server."""

import re
import signal
import socket
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import httpx
import pytest

from tests.server import RunningServer, serving, unless
from tests.service.test_connection import connected, rest

CLIP = (Path(__file__).parents[2] / "demo/media/sample.mp4").read_bytes()
VIEWS = 30
CLIENTS = 50
LONG = b"POST /v1/classify?clips=10&crops=3 HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n" % len(CLIP) + CLIP
HEALTH = b"GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n"
# More than is read while another request has its turn.
UPLOAD = b"POST /v1/classify HTTP/1.1\r\nHost: x\r\nContent-Length: 10000000\r\n\r\n" + bytes(200_000)


@pytest.fixture(scope="module")
def slow(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningServer]:
    """A server that takes long for LONG."""
    with serving(
        tmp_path_factory.mktemp("slow"),
        max_batch_size=1,
        max_queue_size=2 * CLIENTS * VIEWS,
        runtime_threads=1,
        decode_workers=1,
        head_timeout=1,
        upload_idle_timeout=60,
    ) as server:
        yield server


def total(server: RunningServer, series: str) -> float:
    return sum(float(value) for value in re.findall(rf"^{series}(?:\{{.*\}})? (\S+)$", server.metrics(), re.MULTILINE))


def busy(server: RunningServer) -> bool:
    return total(server, "clipserve_requests_in_flight") > 0


def send_what_is_taken(connection: socket.socket, content: bytes) -> None:
    connection.setblocking(False)
    connection.send(content)


@pytest.mark.parametrize("more", [b"", HEALTH, UPLOAD], ids=["one request", "one more", "large upload"])
@pytest.mark.parametrize("at_once", [True, False], ids=["at once", "later"])
def test_work_of_a_client_that_has_left_is_dropped(slow: RunningServer, more: bytes, at_once: bool) -> None:
    before = total(slow, "clipserve_views_total")
    with ExitStack() as clients:
        connections = [clients.enter_context(connected(slow)) for _ in range(CLIENTS)]
        for connection in connections:
            connection.sendall(LONG)
            if at_once:
                send_what_is_taken(connection, more)
        slow.wait_for(lambda: total(slow, "clipserve_views_total") > before)
        for connection in connections:
            if not at_once:
                send_what_is_taken(connection, more)
    slow.wait_for(lambda: not busy(slow))
    assert total(slow, "clipserve_views_total") - before < CLIENTS * VIEWS / 2


def test_broken_request_behind_a_long_one_leaves_it_its_time(slow: RunningServer) -> None:
    with ExitStack() as clients:
        # Their work comes first, and takes longer than head_timeout.
        for _ in range(CLIENTS // 3):
            clients.enter_context(connected(slow)).sendall(LONG)
        slow.wait_for(lambda: busy(slow))
        with connected(slow) as connection:
            broken = b"POST /v1/classify HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\nnonsense\r\n"
            connection.sendall(LONG + HEALTH + broken)
            answers = rest(connection)
    assert re.findall(rb"HTTP/1.1 (\d+)", answers) == [b"200", b"200"]


def test_requests_behind_the_last_answer_of_a_draining_server_are_dropped(tmp_path: Path) -> None:
    with serving(tmp_path, decode_workers=1, drain_delay=4) as server:
        with connected(server) as connection, connected(server) as other:
            server.process.send_signal(signal.SIGTERM)
            server.wait_for(lambda: unless(httpx.get(f"{server.url}/readyz"), 200))
            upload = b"POST /v1/classify HTTP/1.1\r\nHost: x\r\nContent-Length: 1000\r\n\r\nabc"
            connection.sendall(HEALTH + upload)
            other.sendall(HEALTH + HEALTH)
            for answers in (rest(connection), rest(other)):
                assert re.findall(rb"HTTP/1.1 (\d+)", answers) == [b"200"]
                assert b"connection: close\r\n" in answers.lower()
        assert server.process.wait(30) == 0
        assert "Traceback" not in server.log.read_text()


def test_all_are_answered_in_turn(slow: RunningServer) -> None:
    with connected(slow) as connection:
        connection.sendall(HEALTH + LONG + HEALTH)
        connection.sendall(LONG.replace(b"Host: x", b"Host: x\r\nConnection: close"))
        answers = rest(connection)
    assert re.findall(rb"HTTP/1.1 (\d+)", answers) == [b"200"] * 4
    assert [bool(length) for length in re.findall(rb'"views":\[(.)', answers)] == [True, True]

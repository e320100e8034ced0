"""Clients that wait for "100 Continue" before they send a body (curl does with large ones)."""

import re
import socket
from pathlib import Path

import pytest

from tests.server import RunningServer
from tests.service.test_connection import answer_on, connected, rest

CLIP = (Path(__file__).parents[2] / "demo/media/sample.mp4").read_bytes()
CONTINUE = b"HTTP/1.1 100 Continue\r\n\r\n"


def expecting(path: str, version: str = "1.1") -> bytes:
    head = f"POST {path} HTTP/{version}\r\nHost: x\r\nContent-Length: {len(CLIP)}\r\nExpect: 100-continue\r\n\r\n"
    return head.encode()


def test_body_is_asked_for_and_the_connection_kept(server: RunningServer) -> None:
    with connected(server) as connection:
        for _ in range(2):
            connection.sendall(expecting("/v1/classify"))
            assert connection.recv(len(CONTINUE), socket.MSG_WAITALL) == CONTINUE
            connection.sendall(CLIP)
            assert answer_on(connection).startswith(b"HTTP/1.1 200")


@pytest.mark.parametrize("path", ["/v1/classify?top_k=0", "/v1/models/nobody/classify", "/nowhere"])
@pytest.mark.parametrize("sent", [b"", CLIP[:100]], ids=["no body", "some of the body"])
def test_refusal_of_a_body_that_may_not_come_closes_the_connection(
    server: RunningServer, path: str, sent: bytes
) -> None:
    with connected(server) as connection:
        connection.sendall(expecting(path) + sent)
        answer = rest(connection)
    assert re.match(rb"HTTP/1.1 40[04] ", answer)
    assert answer.count(b"HTTP/1.1") == 1
    assert b"connection: close\r\n" in answer.lower()


def test_refusal_of_a_body_that_has_come_keeps_the_connection(server: RunningServer) -> None:
    with connected(server) as connection:
        for _ in range(2):
            connection.sendall(expecting("/v1/classify?top_k=0") + CLIP)
            answer = answer_on(connection)
            assert answer.startswith(b"HTTP/1.1 400")
            assert b"connection: close" not in answer.lower()


def test_client_of_http_1_0_gets_no_interim_answer(server: RunningServer) -> None:
    with connected(server) as connection:
        connection.sendall(expecting("/v1/classify", "1.0"))
        connection.settimeout(0.5)
        with pytest.raises(TimeoutError):
            connection.recv(1)
        connection.settimeout(20)
        connection.sendall(CLIP)
        assert rest(connection).startswith(b"HTTP/1.1 200")

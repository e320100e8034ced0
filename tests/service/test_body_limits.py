"""Bodies over the limit, on every path that takes one, those of tomorrow included."""

from __future__ import annotations

import socket
import time
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from select import select

import pytest
from fastapi.routing import iter_route_contexts

from service.app import create_app
from service.settings import Settings
from tests.keys import entry, setting
from tests.server import RunningServer, serving

METHODS_WITH_BODY = {"POST", "PUT", "PATCH"}
LIMIT = 200_000
# So that no path refuses for another reason.
KEYS, AUTHORIZATION = setting(entry("boss", "the-key", admin=True)), "Authorization: Bearer the-key"
CLASSIFIER, SEGMENTER = "uniformer_tiny_shapes", "uniformer_tiny_shapes_fpn"


def paths_with_body() -> list[tuple[str, str]]:
    """Return method and path of everything that may take a body, for a model that exists."""
    found = iter_route_contexts(create_app(Settings()).routes)
    return sorted(
        (method, path.format(name=SEGMENTER if path.endswith("/segment") else CLASSIFIER, version="1"))
        for route in found
        if (path := str(route.path))
        for method in METHODS_WITH_BODY & set(route.methods or ())
    )


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningServer]:
    """A server that takes little."""
    folder = tmp_path_factory.mktemp("small")
    with serving(folder, max_body_bytes=LIMIT, max_json_bytes=LIMIT, decode_workers=1, api_keys=KEYS) as server:
        yield server


@pytest.mark.parametrize(("method", "path"), paths_with_body(), ids=lambda part: part)
@pytest.mark.parametrize(
    ("header", "sent"),
    [
        # What is declared is refused before any of it comes, what is not as soon as it is too much.
        ("Content-Length: 1000000000000000", b""),
        ("Transfer-Encoding: chunked", b"10000\r\n" + b"\0" * 0x10000 + b"\r\n"),
    ],
    ids=["declared", "chunked"],
)
def test_endless_body_is_refused(small: RunningServer, method: str, path: str, header: str, sent: bytes) -> None:
    host, port = small.url.removeprefix("http://").split(":")
    with socket.create_connection((host, int(port)), timeout=8) as connection:
        connection.sendall(f"{method} {path} HTTP/1.1\r\nHost: x\r\n{AUTHORIZATION}\r\n{header}\r\n\r\n".encode())
        for _ in range(4 * LIMIT // 0x10000):
            connection.sendall(sent)
        assert connection.recv(65536).startswith(b"HTTP/1.1 413")


def test_body_that_only_drips_is_given_up(tmp_path: Path) -> None:
    with serving(tmp_path, request_timeout=1, decode_workers=1, api_keys=KEYS) as server, ExitStack() as stack:
        host, port = server.url.removeprefix("http://").split(":")
        waiting = {}
        for method, path in paths_with_body():
            connection = stack.enter_context(socket.create_connection((host, int(port))))
            head = f"{method} {path} HTTP/1.1\r\nHost: x\r\n{AUTHORIZATION}\r\nTransfer-Encoding: chunked\r\n\r\n"
            connection.sendall(head.encode())
            waiting[connection] = path
        # No pause is as long as the one that would be too long by itself.
        patience = time.monotonic() + 20
        while waiting and time.monotonic() < patience:
            answered, _, _ = select(waiting, [], [], 0.2)
            for connection in answered:
                path = waiting.pop(connection)
                assert connection.recv(65536).startswith(b"HTTP/1.1 504"), path
            for connection in waiting:
                connection.sendall(b"1\r\n \r\n")
        assert not waiting

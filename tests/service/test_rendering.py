"""What segmentations hold and draw: bounded, refused when it is too much, and accounted for until it is really gone."""

import asyncio
import io
import socket
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from threading import Event
from typing import Any

import httpx
import numpy as np
import pytest
from fastapi import FastAPI
from PIL import Image

from service import segmenting
from service.api import segment
from service.api.delivery import DeliveredResponse
from service.app import create_app
from service.errors import BadParameterError, QueueFullError
from service.memory import Lease, MemoryBudget
from service.rendering import Rendering
from service.settings import Settings
from tests.classifier import SIDE, write_classifier
from tests.segmenter import NAME, write_repository
from tests.server import running
from tests.waiting import wait_for

LIMIT = 10_000_000


@pytest.fixture
def app(tmp_path: Path) -> FastAPI:
    return create_app(_settings(tmp_path))


@pytest.fixture
def url(app: FastAPI, tmp_path: Path) -> Iterator[str]:
    """A server with LIMIT bytes for pictures, and one thread to draw them in."""
    with running(app, _settings(tmp_path)) as address:
        app.state.server.pipeline.rendering = Rendering(1)
        yield address


def _settings(folder: Path) -> Settings:
    repository = folder / "models"
    if not repository.exists():
        write_repository(folder)
    return Settings(repository=repository, max_picture_memory_bytes=LIMIT, answer_idle_timeout=60)


def held(app: FastAPI) -> int:
    size: int = app.state.server.picture_memory.held
    return size


def picture(side: int = 300) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(np.zeros((side, side, 3), np.uint8)).save(buffer, "PNG")
    return buffer.getvalue()


def post(url: str, content: bytes, **query: Any) -> httpx.Response:
    return httpx.post(f"{url}/v1/segment", content=content, params=query, timeout=30)


@contextmanager
def begun_post(url: str, content: bytes, **query: Any) -> Iterator[None]:
    """Send a request, and leave when the block ends, with the answer or without."""
    address = httpx.URL(url, params=query)
    with socket.create_connection((address.host, address.port)) as connection:
        target = f"/v1/segment?{address.query.decode()}"
        connection.sendall(f"POST {target} HTTP/1.1\r\nHost: x\r\nContent-Length: {len(content)}\r\n\r\n".encode())
        connection.sendall(content)
        yield


def test_pictures_that_find_no_room_are_shed(app: FastAPI, url: str) -> None:
    assert post(url, picture()).status_code == 200
    wait_for(lambda: held(app) == 0)
    memory = app.state.server.picture_memory
    memory.take(LIMIT - 100_000)
    for query in ({}, {"output": "overlay"}, {"show": "frames"}):
        answer = post(url, picture(), **query)
        assert (answer.status_code, answer.json()["code"]) == (429, "queue_full")
        assert f"pictures being worked on fill the {LIMIT} bytes" in answer.json()["detail"]
        assert int(answer.headers["retry-after"]) >= 1
    memory.give_back(LIMIT - 100_000, 1)
    for query in ({}, {"output": "overlay"}, {"output": "rle"}, {"show": "frames"}):
        assert post(url, picture(), **query).status_code == 200
    wait_for(lambda: held(app) == 0)


def test_pictures_that_could_never_be_held_are_refused_for_good(app: FastAPI, url: str) -> None:
    # 128 x 128 x 3 bytes for the network, a mask of that and its logits, four bytes for each of four classes and each
    # 4 x 4 pixels; at its own size 1 + 3 + 7 bytes a pixel.
    side = int(((LIMIT - 128 * 128 * 5) / 11) ** 0.5)
    assert post(url, picture(side), output="overlay").status_code == 200
    problem = post(url, picture(side + 1), output="overlay").json()
    assert (problem["status"], problem["code"]) == (422, "media_limit_exceeded")
    assert f"take {128 * 128 * 5 + 11 * (side + 1) ** 2} bytes" in problem["detail"]
    assert post(url, picture(side + 1), output="png").status_code == 200
    wait_for(lambda: held(app) == 0)


@pytest.fixture
def drawing(monkeypatch: pytest.MonkeyPatch) -> Iterator[tuple[list[int], Event]]:
    """The drawings that have begun, and what ends them."""
    begun: list[int] = []
    may_end = Event()

    def draw(*_: Any) -> DeliveredResponse:
        begun.append(len(begun))
        assert may_end.wait(60)
        return DeliveredResponse(b"drawn")

    monkeypatch.setitem(segment._RENDERERS, "png", draw)
    yield begun, may_end
    may_end.set()


def test_drawing_for_clients_that_left_is_not_begun_and_counts_until_it_ends(
    app: FastAPI, url: str, drawing: tuple[list[int], Event]
) -> None:
    begun, may_end = drawing
    one = 300 * 300
    with ExitStack() as clients:
        for _ in range(4):
            clients.enter_context(begun_post(url, picture()))
        # One is drawn, and three wait for that: some with their masks, the others to have them made, with what the
        # network saw, a mask of that and its logits beside.
        full = one + 128 * 128 * 5
        wait_for(lambda: begun and held(app) in [(1 + made) * one + (3 - made) * full for made in range(4)])
    wait_for(lambda: app.state.metrics.in_flight._value.get() == 0)
    # That of the one that is drawn; those that waited are gone.
    assert held(app) == one
    assert len(begun) == 1
    may_end.set()
    wait_for(lambda: held(app) == 0)
    assert post(url, picture()).content == b"drawn"
    assert len(begun) == 2


@pytest.mark.parametrize(
    ("side", "query", "logits"),
    [
        # 128 x 128 pixels of the network, 4 x 4 of them to each of four logits.
        (300, {}, 4 * 32 * 32 * 4),
        # Four windows of that size a row, and what is summed up of them over the whole width.
        (288, {"short_side": 288}, 4 * (4 * 32 * 32 * 4) + 4 * 32 * 72 * 4),
    ],
)
def test_logits_that_wait_for_drawing_count(
    app: FastAPI, url: str, monkeypatch: pytest.MonkeyPatch, side: int, query: dict[str, int], logits: int
) -> None:
    drawn, may_end = [], Event()

    def draw(*arguments: Any) -> Any:
        drawn.append(arguments)
        assert may_end.wait(60)
        raise BadParameterError("drawn")

    monkeypatch.setattr(segmenting, "mask_of_logits", draw)
    monkeypatch.setattr(segmenting.Stitcher, "add_row", draw)
    content = picture(side)
    seen = query.get("short_side", 128)
    # The picture for the network, a mask of that, the mask at the upload's size.
    before = seen * seen * 4 + side * side
    with ExitStack() as clients:
        for _ in range(3):
            clients.enter_context(begun_post(url, content, **query))
        # All have run: one is drawn, and two wait for that.
        wait_for(lambda: held(app) >= 3 * (before + logits))
        one = held(app) // 3
        room = LIMIT - held(app) - one
        app.state.server.picture_memory.take(room + 1)
        problem = post(url, content, **query)
        assert (problem.status_code, problem.json()["code"]) == (429, "queue_full")
        app.state.server.picture_memory.give_back(room + 1, 1)
    wait_for(lambda: held(app) == one)
    assert len(drawn) == 1
    may_end.set()
    wait_for(lambda: held(app) == 0)
    # That it fails gives everything back, too.
    assert post(url, content, **query).status_code == 400
    wait_for(lambda: held(app) == 0)


@pytest.mark.parametrize(
    ("path", "header"),
    [("/v1/segment", ""), (f"/v2/models/{NAME}/infer", "Inference-Header-Content-Length: 0\r\n")],
)
def test_answer_counts_until_the_client_has_taken_it(
    app: FastAPI, url: str, monkeypatch: pytest.MonkeyPatch, path: str, header: str
) -> None:
    # More than the kernels keep: a byte a pixel.
    size = 9_000_000
    monkeypatch.setitem(segment._RENDERERS, "png", lambda *_: DeliveredResponse(bytes(size)))
    content = picture(3000)
    host, port = url.removeprefix("http://").split(":")
    with socket.socket() as connection:
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 65536)
        connection.connect((host, int(port)))
        head = f"POST {path} HTTP/1.1\r\nHost: x\r\n{header}Connection: close\r\nContent-Length: {len(content)}\r\n\r\n"
        connection.sendall(head.encode() + content)
        assert connection.recv(12) == b"HTTP/1.1 200"
        time.sleep(0.5)
        assert held(app) == size
        assert post(url, picture(1200)).status_code == 429
        taken = 12
        while part := connection.recv(1 << 20):
            taken += len(part)
        assert taken > size
    wait_for(lambda: held(app) == 0)
    assert post(url, picture(10)).status_code == 200


def test_views_of_a_classifier_and_their_sheets_count_as_pictures_do(tmp_path: Path) -> None:
    write_classifier(tmp_path / "models", "shade", 1)
    view = SIDE * SIDE * 3

    def status(limit: int, **query: str) -> int:
        settings = Settings(repository=tmp_path / "models", max_picture_memory_bytes=limit)
        app = create_app(settings)
        with running(app, settings) as url:
            answer = httpx.post(f"{url}/v1/classify", content=picture(), params=query, timeout=30)
            wait_for(lambda: held(app) == 0)
        if answer.status_code == 422:
            assert answer.json()["code"] == "media_limit_exceeded"
        return answer.status_code

    assert [status(view), status(view - 1)] == [200, 422]
    assert [status(2 * view, show="frames"), status(2 * view - 1, show="frames")] == [200, 422]


def test_lease_goes_with_its_last_user() -> None:
    async def scenario() -> None:
        budget = MemoryBudget("things", 10)
        lease, rendering, may_end = Lease(budget), Rendering(1), Event()
        lease.take(7)
        with pytest.raises(QueueFullError, match="things being worked on fill the 10 bytes"):
            Lease(budget).take(4)
        first = asyncio.create_task(rendering.run(lease, may_end.wait, 20))
        second = asyncio.create_task(rendering.run(lease, pytest.fail, "it was called off"))
        await asyncio.sleep(0.1)
        for task in (second, first):
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
        lease.drop()
        assert budget.held == 7
        may_end.set()
        # The place is free once the thread has ended, and so is the memory.
        assert await rendering.run(Lease(budget), sum, [1, 2]) == 3
        assert budget.held == 0
        rendering.close()

    asyncio.run(scenario())

"""How a real server stops: what it answers meanwhile, what becomes of accepted requests, and its exit status."""

import signal
import socket
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx
import pytest

from tests.processes import is_running
from tests.server import RunningServer, begun_upload, serving, unless
from tests.waiting import wait_for

CLIP = (Path(__file__).parents[2] / "demo/media/sample.mp4").read_bytes()


def wait_until_draining(server: RunningServer) -> httpx.Response:
    return server.wait_for(lambda: unless(httpx.get(f"{server.url}/readyz"), 200))


def whole_answer(connection: socket.socket) -> bytes:
    return b"".join(iter(lambda: connection.recv(65536), b""))


def test_draining_server_says_so_refuses_new_work_and_finishes_the_old(tmp_path: Path) -> None:
    with serving(tmp_path, drain_delay=4) as server, begun_upload(server, CLIP, sent=100) as accepted:
        server.process.send_signal(signal.SIGTERM)
        refusals = [
            wait_until_draining(server),
            httpx.post(f"{server.url}/v1/classify", content=CLIP),
        ]
        for refusal in refusals:
            assert (refusal.status_code, refusal.json()["code"]) == (503, "not_ready")
            assert refusal.headers["content-type"] == "application/problem+json"
            assert int(refusal.headers["retry-after"]) >= 1
            assert refusal.headers["connection"] == "close"
        assert httpx.get(f"{server.url}/healthz").status_code == 200
        accepted.sendall(CLIP[100:])
        assert whole_answer(accepted).startswith(b"HTTP/1.1 200")
        assert server.process.wait(30) == 0
        with pytest.raises(httpx.ConnectError):
            httpx.get(f"{server.url}/readyz")


def test_request_that_outlasts_the_drain_gets_a_proper_answer(tmp_path: Path) -> None:
    with serving(tmp_path, drain_timeout=1, upload_idle_timeout=50) as server:
        with begun_upload(server, CLIP, sent=100) as accepted:
            server.process.send_signal(signal.SIGTERM)
            answer = whole_answer(accepted)
        assert answer.startswith(b"HTTP/1.1 503")
        assert b"application/problem+json" in answer
        assert b"not done within the 1 s" in answer
        assert server.process.wait(30) == 0


@pytest.mark.parametrize("second", [signal.SIGTERM, signal.SIGINT])
def test_second_signal_ends_the_server_at_once(tmp_path: Path, second: signal.Signals) -> None:
    with serving(tmp_path, drain_delay=60, drain_timeout=60, upload_idle_timeout=60) as server:
        workers = server.worker_pids()
        with begun_upload(server, CLIP, sent=100) as accepted:
            server.process.send_signal(signal.SIGTERM)
            wait_until_draining(server)
            server.process.send_signal(second)
            assert server.process.wait(20) == -second
            assert accepted.recv(100) == b""
    assert workers
    wait_for(lambda: not any(map(is_running, workers)))


def test_termination_under_load_fails_no_request(tmp_path: Path) -> None:
    with serving(tmp_path, drain_delay=3) as server:

        def client(_: int) -> list[httpx.Response]:
            """Post over one kept connection until the server sends the client away."""
            answers: list[httpx.Response] = []
            with httpx.Client(timeout=60) as session:
                while not answers or answers[-1].status_code == 200:
                    answers.append(session.post(f"{server.url}/v1/classify", content=CLIP))
            return answers

        with ThreadPoolExecutor(12) as executor:
            clients = [executor.submit(client, number) for number in range(12)]
            server.wait_for(lambda: 'status="200"} 2' in server.metrics())
            server.process.send_signal(signal.SIGTERM)
            answers = [future.result() for future in clients]
        assert server.process.wait(60) == 0
    for received in answers:
        assert {answer.status_code for answer in received[:-1]} <= {200}
        assert (received[-1].status_code, received[-1].json()["code"]) == (503, "not_ready")
    assert sum(len(received) for received in answers) > len(answers)

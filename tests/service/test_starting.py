"""What a real server answers before it is ready."""

from pathlib import Path

import httpx
import pytest

from tests.server import hold_at_begin, is_alive, starting, wait_until_ready

MODEL = "uniformer_tiny_shapes"
# The server waits for its decode workers.
HELD_WORKERS = """
import pathlib, sys, time
while "service.media.worker" in sys.orig_argv and not pathlib.Path({!r}).exists():
    time.sleep(0.05)
"""


def assert_not_ready(answer: httpx.Response) -> None:
    assert answer.status_code == 503
    assert int(answer.headers["retry-after"]) >= 1
    if answer.request.url.path.startswith("/v2"):
        assert set(answer.json()) == {"error"}
    else:
        assert answer.headers["content-type"] == "application/problem+json"
        assert answer.json()["code"] == "not_ready"


def test_server_that_is_starting_answers_probes_and_refuses_work(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    may_go_on = hold_at_begin(tmp_path, monkeypatch, HELD_WORKERS)
    with starting(tmp_path, decode_workers=1) as server:
        server.wait_for(lambda: is_alive(server))
        assert httpx.get(f"{server.url}/v2/health/live").status_code == 200
        for probe in ("/readyz", "/v2/health/ready"):
            assert_not_ready(httpx.get(server.url + probe))
        # They have been answered, and nobody was sent away.
        assert "clipserve_requests_rejected_total{" not in server.metrics()
        for work in ("/v1/classify", "/v1/segment", f"/v2/models/{MODEL}/infer"):
            assert_not_ready(httpx.post(server.url + work))
        may_go_on.touch()
        wait_until_ready(server)
        assert httpx.get(f"{server.url}/v2/health/ready").status_code == 200

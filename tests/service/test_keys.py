"""Keys, their limits, and pages of other sites, against a real server."""

from __future__ import annotations

import json
import re
import socket
from collections.abc import Iterator
from hashlib import sha256
from pathlib import Path

import httpx
import pytest
from fastapi.routing import iter_route_contexts
from tritonclient.http import InferenceServerClient
from tritonclient.utils import InferenceServerException

from service.app import create_app
from service.settings import Settings
from tests.keys import bearer, entry, setting
from tests.server import RunningServer, running, serving

CLIP = (Path(__file__).parents[2] / "demo/media/sample.mp4").read_bytes()
CLASSIFIER = "uniformer_tiny_shapes"
KEY, LIMITED, OTHER = "correct-horse", "battery", "staple"
ORIGIN = "https://app.example"
# The list of the documentation, not of the code.
OPEN = {
    "/healthz",
    "/readyz",
    "/v2/health/live",
    "/v2/health/ready",
    "/",
    "/web/page.css",
    "/web/page.js",
    "/web/icon.svg",
    "/docs",
    "/openapi.json",
}


@pytest.fixture(scope="module")
def closed(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningServer]:
    """A server that wants keys."""
    keys = setting(
        entry("camera-7", KEY),
        entry("slow", LIMITED, requests_per_second=0.01, burst=2),
        entry("other", OTHER, requests_per_second=1000),
    )
    with serving(
        tmp_path_factory.mktemp("closed"),
        api_keys=keys,
        cors_origins=json.dumps([ORIGIN]),
        access_log=True,
        log_format="json",
    ) as server:
        yield server


def log_of(server: RunningServer, request_id: str) -> list[dict[str, object]]:
    lines = [json.loads(line) for line in server.log.read_text().splitlines()]
    return [line for line in lines if line["request_id"] == request_id]


def routes() -> list[tuple[str, str]]:
    """Return method and path of everything that the application has."""
    found = iter_route_contexts(create_app(Settings()).routes)
    paths = [(method, str(route.path)) for route in found for method in route.methods or ()]
    filled = {(method, re.sub(r"\{\w+\}", "x", path)) for method, path in paths}
    return sorted(filled | {("GET", path) for path in OPEN} | {("GET", "/nowhere"), ("GET", "//healthz")})


@pytest.mark.parametrize(("method", "path"), routes(), ids=lambda part: part)
def test_every_route_but_the_open_ones_wants_a_key(closed: RunningServer, method: str, path: str) -> None:
    answer = httpx.request(method, closed.url + path)
    if path in OPEN:
        assert answer.status_code == 200
    else:
        assert answer.status_code == 401
        assert answer.headers["www-authenticate"] == 'Bearer realm="clipserve"'
        assert httpx.request(method, closed.url + path, headers=bearer(KEY)).status_code != 401


@pytest.mark.parametrize(
    "given",
    [
        KEY,
        "Bearer",
        "Bearer wrong",
        f"Basic {KEY}",
        f"Bearer {KEY}x",
        f"Bearer {KEY[:-1]}",
        f"Bearer {sha256(KEY.encode()).hexdigest()}",
        "Bearer camera-7",
        "Bearer sch\N{LATIN SMALL LETTER U WITH DIAERESIS}ssel".encode("latin-1"),
    ],
)
def test_whatever_is_no_key_is_refused(closed: RunningServer, given: str | bytes) -> None:
    raw = given if isinstance(given, bytes) else given.encode()
    answer = httpx.get(f"{closed.url}/v1/models", headers={b"Authorization": raw})
    assert answer.status_code == 401
    assert answer.headers["content-type"] == "application/problem+json"
    assert answer.json()["code"] == "unauthorized"


def test_refusal_under_v2_has_the_form_of_the_protocol(closed: RunningServer) -> None:
    answer = httpx.get(f"{closed.url}/v2/models/uniformer_tiny_shapes")
    assert (answer.status_code, list(answer.json())) == (401, ["error"])
    assert "www-authenticate" in answer.headers


def test_refused_upload_is_never_asked_for(closed: RunningServer) -> None:
    host, port = closed.url.removeprefix("http://").split(":")
    head = "POST /v1/classify HTTP/1.1\r\nHost: x\r\nContent-Length: 100000000\r\nExpect: 100-continue\r\n\r\n"
    with socket.create_connection((host, int(port)), timeout=20) as connection:
        connection.sendall(head.encode())
        assert connection.recv(65536).startswith(b"HTTP/1.1 401")


@pytest.mark.parametrize("scheme", ["Bearer", "bearer"])
def test_key_opens_and_its_name_is_logged(closed: RunningServer, scheme: str) -> None:
    headers = {"Authorization": f"{scheme} {KEY}", "X-Request-Id": f"named-{scheme}"}
    assert httpx.post(f"{closed.url}/v1/classify", content=CLIP, headers=headers, timeout=60).status_code == 200
    (line,) = log_of(closed, f"named-{scheme}")
    assert line["key"] == "camera-7"
    assert KEY not in closed.log.read_text()


def test_line_of_a_refused_request_has_no_name(closed: RunningServer) -> None:
    httpx.get(f"{closed.url}/v1/models", headers={"X-Request-Id": "refused", **bearer("guess")})
    (line,) = log_of(closed, "refused")
    assert line["status"] == 401
    assert "key" not in line
    assert "guess" not in closed.log.read_text()


def test_triton_client_sends_a_key(closed: RunningServer) -> None:
    with InferenceServerClient(closed.url.removeprefix("http://")) as client:
        assert client.is_server_ready()
        with pytest.raises(InferenceServerException, match="Bearer"):
            client.get_model_metadata("uniformer_tiny_shapes")
        assert client.get_model_metadata("uniformer_tiny_shapes", headers=bearer(KEY))["inputs"]


def test_key_that_asks_too_often_waits_and_the_others_do_not(closed: RunningServer) -> None:
    answers = [httpx.get(f"{closed.url}/v1/models", headers=bearer(LIMITED)) for _ in range(4)]
    assert [answer.status_code for answer in answers] == [200, 200, 429, 429]
    # One token in a hundred seconds, of which few can have passed.
    assert 50 < int(answers[2].headers["retry-after"]) <= 100
    assert answers[2].json()["code"] == "rate_limited"
    assert "0.01 requests a second" in answers[2].json()["detail"]
    for key in (KEY, OTHER):
        assert httpx.get(f"{closed.url}/v1/models", headers=bearer(key)).status_code == 200
    metrics = httpx.get(f"{closed.url}/metrics", headers=bearer(KEY)).text
    assert 'clipserve_requests_rejected_total{reason="rate_limited"} 2.0' in metrics
    assert re.search(r'clipserve_requests_rejected_total\{reason="unauthorized"\} \d', metrics)


def preflight(server: RunningServer, origin: str, wanted: str = "authorization") -> httpx.Response:
    headers = {
        "Origin": origin,
        "Access-Control-Request-Method": "POST",
        "Access-Control-Request-Headers": wanted,
    }
    return httpx.options(f"{server.url}/v1/classify", headers=headers)


def test_page_of_a_named_site_may_call(closed: RunningServer) -> None:
    answer = preflight(closed, ORIGIN, "authorization,content-type,traceparent")
    assert answer.status_code == 200
    assert answer.headers["access-control-allow-origin"] == ORIGIN
    assert "POST" in answer.headers["access-control-allow-methods"]
    assert "authorization" in answer.headers["access-control-allow-headers"].lower()
    for answer in (
        httpx.get(f"{closed.url}/v1/models", headers={"Origin": ORIGIN, **bearer(KEY)}),
        httpx.get(f"{closed.url}/v1/models", headers={"Origin": ORIGIN}),
        httpx.get(f"{closed.url}/v1/models/nothing", headers={"Origin": ORIGIN, **bearer(KEY)}),
    ):
        assert answer.headers["access-control-allow-origin"] == ORIGIN
        assert "X-Request-Id" in answer.headers["access-control-expose-headers"]


def refused_preflights(server: RunningServer) -> float:
    metrics = httpx.get(f"{server.url}/metrics", headers=bearer(KEY)).text
    found = re.search(r'clipserve_requests_rejected_total\{reason="cors_refused"\} (\S+)', metrics)
    return float(found[1]) if found else 0.0


@pytest.mark.parametrize(
    ("origin", "wanted"), [("https://evil.example", "authorization"), (ORIGIN, "x-unheard-of"), ("null", "range")]
)
def test_page_of_another_site_may_not(closed: RunningServer, origin: str, wanted: str) -> None:
    before = refused_preflights(closed)
    answer = preflight(closed, origin, wanted)
    problem = answer.json()
    assert (answer.status_code, answer.headers["content-type"]) == (400, "application/problem+json")
    assert problem["code"] == "cors_refused"
    assert origin in problem["detail"]
    assert wanted in problem["detail"]
    assert problem["request_id"] == answer.headers["x-request-id"]
    assert refused_preflights(closed) == before + 1
    assert answer.headers.get("access-control-allow-origin") in (None, ORIGIN if origin == ORIGIN else None)


def test_without_keys_and_sites_everything_is_open_and_no_site_is_allowed(server: RunningServer) -> None:
    assert httpx.get(f"{server.url}/v1/models").status_code == 200
    assert httpx.get(f"{server.url}/metrics").status_code == 200
    assert preflight(server, ORIGIN).status_code == 405
    answer = httpx.get(f"{server.url}/healthz", headers={"Origin": ORIGIN})
    assert not [name for name in answer.headers if name.startswith("access-control")]


ADMIN = "admin-key"
PLAIN_ENTRY, ADMIN_ENTRY = entry("plain", KEY), entry("boss", ADMIN, admin=True)


@pytest.mark.parametrize(
    ("keys", "outcomes"),
    [
        ((), {None: (403, "the server has none"), ADMIN: (403, "the server has none")}),
        ((PLAIN_ENTRY,), {KEY: (403, "the server has none"), ADMIN: (401, "does not know")}),
        (
            (PLAIN_ENTRY, ADMIN_ENTRY),
            {KEY: (403, "`plain` is no admin key"), None: (401, "wants a key"), ADMIN: (200, "")},
        ),
    ],
    ids=["no keys", "no admin key", "admin key"],
)
def test_only_an_admin_key_administers(
    tmp_path: Path, keys: tuple[dict[str, object], ...], outcomes: dict[str | None, tuple[int, str]]
) -> None:
    with serving(tmp_path, api_keys=setting(*keys), decode_workers=1) as server:
        for shown, (status, text) in outcomes.items():
            headers = bearer(shown) if shown else {}
            answer = httpx.post(f"{server.url}/v2/repository/models/{CLASSIFIER}/unload", headers=headers)
            assert answer.status_code == status
            assert text in answer.text
            models = httpx.get(f"{server.url}/v2/models", headers=bearer(KEY)).json()["models"]
            assert (CLASSIFIER in models) == (status != 200)


def test_failure_that_nobody_foresaw_is_counted_and_marked_like_every_answer() -> None:
    settings = Settings.model_validate({"cors_origins": [ORIGIN], "decode_workers": 1})
    app = create_app(settings)

    @app.get("/broken")
    def broken() -> None:
        raise LookupError("the secret of the house")

    with running(app, settings) as url:
        answer = httpx.get(f"{url}/broken", headers={"Origin": ORIGIN, "X-Request-Id": "mine"})
        metrics = httpx.get(f"{url}/metrics").text
    assert 'clipserve_requests_total{route="/broken",status="500"} 1.0' in metrics
    assert (answer.status_code, answer.json()["code"]) == (500, "internal_error")
    assert "secret" not in answer.text
    assert answer.headers["x-request-id"] == answer.json()["request_id"] == "mine"
    assert answer.headers["access-control-allow-origin"] == ORIGIN

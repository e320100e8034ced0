"""What ties an answer to the server's log: request ids, timing headers, structured lines."""

import json
import re
from pathlib import Path

import httpx
import pytest
from fastapi.routing import iter_route_contexts

from service.app import create_app
from service.settings import Settings
from tests.keys import entry, setting
from tests.server import RunningServer, serving

PICTURE = (Path(__file__).parents[2] / "demo/media/sample.jpg").read_bytes()
CLIP = (Path(__file__).parents[2] / "demo/media/sample.mp4").read_bytes()


def test_own_request_id_comes_back_in_answers_and_problems(server: RunningServer) -> None:
    headers = {"X-Request-Id": "trace-1:a.b_C"}
    answer = httpx.post(f"{server.url}/v1/classify", content=CLIP, headers=headers, timeout=60)
    assert (answer.status_code, answer.headers["x-request-id"]) == (200, "trace-1:a.b_C")
    for problem in (
        httpx.post(f"{server.url}/v1/classify", content=b"text", headers=headers),
        httpx.get(f"{server.url}/nowhere", headers=headers),
    ):
        assert problem.status_code >= 400
        assert problem.headers["x-request-id"] == problem.json()["request_id"] == "trace-1:a.b_C"


@pytest.mark.parametrize("given", [None, "", "a b", "x" * 129, 'quote"d', "{}"])
def test_request_without_a_sound_id_gets_one(server: RunningServer, given: str | None) -> None:
    headers = {} if given is None else {"X-Request-Id": given}
    ids = {httpx.get(f"{server.url}/healthz", headers=headers).headers["x-request-id"] for _ in range(2)}
    assert len(ids) == 2
    assert all(re.fullmatch("[0-9a-f]{32}", found) for found in ids)


def test_timing_header_says_what_the_answer_says(server: RunningServer) -> None:
    answer = httpx.post(f"{server.url}/v1/classify", content=CLIP, timeout=60)
    entries = dict(entry.split(";dur=") for entry in answer.headers["server-timing"].split(", "))
    seconds = answer.json()["timing_seconds"]
    assert {stage: float(value) / 1000 for stage, value in entries.items()} == pytest.approx(seconds, abs=0.0001)
    assert "server-timing" not in httpx.get(f"{server.url}/healthz").headers


def test_every_route_is_counted_under_its_own_template(tmp_path: Path) -> None:
    routes = iter_route_contexts(create_app(Settings()).routes)
    ours = [route for route in routes if str(route.path).startswith(("/v1", "/v2"))]
    templates = {(method, str(route.path)) for route in ours for method in route.methods or ()}
    with serving(tmp_path) as server:
        for method, template in templates:
            httpx.request(method, server.url + template.format(name="x", version="1"))
        metrics = httpx.get(f"{server.url}/metrics").text
    counted = set(re.findall(r'clipserve_requests_total\{route="([^"]*)"', metrics))
    assert {template for _, template in templates} <= counted
    assert {"/v2/models/{name}/infer", "/v2/models/{name}/versions/{version}/infer", "/v2"} <= counted


def test_log_is_json_and_names_the_request(tmp_path: Path) -> None:
    with serving(tmp_path, log_format="json", access_log=True) as server:
        httpx.post(f"{server.url}/v1/classify", content=CLIP, headers={"X-Request-Id": "mine"}, timeout=60)
        httpx.post(f'{server.url}/v1/models/no"thing/classify', headers={"X-Request-Id": "other"})
        assert server.terminate() == 0
        lines = [json.loads(line) for line in server.log.read_text().splitlines()]
    assert all({"time", "level", "logger", "message", "request_id"} <= set(line) for line in lines)
    (mine,) = (line for line in lines if line["request_id"] == "mine")
    assert (mine["method"], mine["route"], mine["status"]) == ("POST", "/v1/classify", 200)
    assert mine["seconds"] > 0
    assert mine["model"] == "uniformer_tiny_shapes/1"
    assert "code" not in mine
    (other,) = (line for line in lines if line["request_id"] == "other")
    assert (other["route"], other["status"], other["code"]) == ("/v1/models/{name}/classify", 404, "unknown_model")
    assert "model" not in other
    assert any(line["request_id"] == "-" and line["message"].startswith("ready:") for line in lines)


def test_line_of_the_log_shows_what_was_asked_for_and_leaves_out_who_polls(tmp_path: Path) -> None:
    with serving(tmp_path, access_log=True) as server:
        for path in ("/healthz", "/v2/health/ready", "/metrics", "/v2/models/uniformer_tiny_shapes/ready"):
            assert httpx.get(server.url + path).status_code == 200
        for path in ("/nowhere?key=secret", "/two%0Alines%20%22%C3%A4", f"/{'x' * 999}", "/v2/models/none/ready"):
            httpx.get(server.url + path)
        metrics = server.metrics()
        assert server.terminate() == 0
    log = server.log.read_text()
    # Until it was ready it was asked too, and said no.
    shown = [path for path in re.findall(r"service\.api\.access: GET (\S+) \d+", log) if path != "/readyz"]
    assert shown == ["/nowhere", "/two%0Alines%20%22%C3%A4", f"/{'x' * 255}...", "/v2/models/none/ready"]
    assert "/readyz 200" not in log
    assert "secret" not in log
    assert "nowhere" not in metrics


@pytest.mark.parametrize(
    ("path", "kind"),
    [
        ("/v1/classify", "application/json"),
        ("/v1/models/uniformer_tiny_shapes_fpn/segment?output=png", "image/png"),
        ("/v1/models/uniformer_tiny_shapes_fpn/versions/1/segment?output=overlay", "image/jpeg"),
    ],
)
def test_results_of_every_form_name_their_model(server: RunningServer, path: str, kind: str) -> None:
    name = "uniformer_tiny_shapes" if kind == "application/json" else "uniformer_tiny_shapes_fpn"
    answer = httpx.post(server.url + path, content=PICTURE, timeout=60)
    assert (answer.status_code, answer.headers["content-type"]) == (200, kind)
    assert (answer.headers["clipserve-model"], answer.headers["clipserve-version"]) == (name, "1")
    for other in (httpx.get(f"{server.url}/v1/models"), httpx.post(server.url + path, content=b"text")):
        assert "clipserve-model" not in other.headers


def test_what_is_refused_before_its_route_is_counted_and_logged_under_it_all_the_same(tmp_path: Path) -> None:
    keys = setting(entry("ann", "the-key"))
    with serving(tmp_path, log_format="json", access_log=True, api_keys=keys) as server:
        httpx.post(f"{server.url}/v1/models/any/classify", headers={"X-Request-Id": "mine"})
        httpx.get(f"{server.url}/docs")
        httpx.get(f"{server.url}/nowhere")
        metrics = httpx.get(f"{server.url}/metrics", headers={"Authorization": "Bearer the-key"}).text
        assert server.terminate() == 0
        lines = [json.loads(line) for line in server.log.read_text().splitlines()]
    counted = dict(re.findall(r'clipserve_requests_total\{route="([^"]*)",status="(\d+)"', metrics))
    assert counted["/v1/models/{name}/classify"] == "401"
    assert counted["/docs"] == "200"
    assert counted["unknown"] == "401"
    (mine,) = (line for line in lines if line["request_id"] == "mine")
    # Until it was ready it was asked too, and said no.
    paths = {line["path"]: line["status"] for line in lines if line.get("path") not in (None, "/readyz")}
    assert paths == {"/v1/models/any/classify": 401, "/docs": 200, "/nowhere": 401}
    assert (mine["route"], mine["status"], mine["client"]) == ("/v1/models/{name}/classify", 401, "127.0.0.1")

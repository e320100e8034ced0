"""Traces, as a collector receives them from a real server."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from itertools import pairwise
from pathlib import Path
from secrets import token_hex
from threading import Thread
from typing import Any

import httpx
import numpy as np
import pytest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.trace.v1.trace_pb2 import Span, Status
from tritonclient.http import InferenceServerClient, InferInput

from demo.local_server import free_port
from tests.server import ROOT, RunningServer, serving

CLIP = (ROOT / "demo/media/sample.mp4").read_bytes()
SECONDS = 30


class Collector:
    """What has come by OTLP over HTTP."""

    def __init__(self) -> None:
        self.spans: list[tuple[dict[str, Any], Span]] = []
        self.url = ""

    def take(self, body: bytes) -> None:
        for of_process in ExportTraceServiceRequest.FromString(body).resource_spans:
            resource = attributes(of_process.resource)
            self.spans += [(resource, span) for scope in of_process.scope_spans for span in scope.spans]

    def of_trace(self, trace_id: str) -> list[Span]:
        return [span for _, span in self.spans if span.trace_id.hex() == trace_id]

    def wait_for(self, trace_id: str) -> tuple[Span, list[Span]]:
        """Return the server span of a trace and, by their beginning, those below it."""
        deadline = time.monotonic() + SECONDS
        while True:
            spans = self.of_trace(trace_id)
            servers = [span for span in spans if span.kind == Span.SPAN_KIND_SERVER]
            # The last to be made, where there was work at all.
            whole = any(span.name == "answer" for span in spans) or time.monotonic() > deadline - SECONDS + 1
            if servers and whole:
                (server,) = servers
                return server, sorted((s for s in spans if s is not server), key=lambda s: s.start_time_unix_nano)
            assert time.monotonic() < deadline, "no span came"
            time.sleep(0.02)


def attributes(holder: Any) -> dict[str, Any]:
    return {item.key: getattr(item.value, item.value.WhichOneof("value")) for item in holder.attributes}


@contextmanager
def collecting() -> Iterator[Collector]:
    collector = Collector()

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            assert (self.path, self.headers["Content-Type"]) == ("/v1/traces", "application/x-protobuf")
            collector.take(body)
            self.send_response(200)
            self.send_header("Content-Length", "0")
            self.end_headers()

        def log_message(self, *_: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as receiver:
        collector.url = f"http://127.0.0.1:{receiver.server_port}"
        Thread(target=receiver.serve_forever, daemon=True).start()
        yield collector
        receiver.shutdown()


@pytest.fixture(scope="module")
def collector() -> Iterator[Collector]:
    with collecting() as collector:
        yield collector


@pytest.fixture(scope="module")
def traced(tmp_path_factory: pytest.TempPathFactory, collector: Collector) -> Iterator[RunningServer]:
    """A server that sends its spans to the collector, and has no time for segmentation."""
    models = json.dumps({"uniformer_tiny_shapes_fpn": {"request_timeout": 0.001}})
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", collector.url)
        patch.setenv("OTEL_BSP_SCHEDULE_DELAY", "100")
        patch.setenv("OTEL_RESOURCE_ATTRIBUTES", "deployment.environment.name=tests")
        folder = tmp_path_factory.mktemp("traced")
        with serving(folder, tracing=True, access_log=True, log_format="json", models=models) as server:
            yield server


def traceparent() -> tuple[str, str, dict[str, str]]:
    """Return a trace id, a span id and the headers of a client that is traced."""
    trace_id, span_id = token_hex(16), token_hex(8)
    return trace_id, span_id, {"traceparent": f"00-{trace_id}-{span_id}-01", "tracestate": "vendor=7"}


def seconds(span: Span) -> float:
    return (span.end_time_unix_nano - span.start_time_unix_nano) / 1e9


def test_trace_of_a_client_goes_on_through_all_stages(traced: RunningServer, collector: Collector) -> None:
    trace_id, span_id, headers = traceparent()
    before = time.time_ns()
    answer = httpx.post(
        f"{traced.url}/v1/models/uniformer_tiny_shapes/classify?top_k=1", content=CLIP, headers=headers, timeout=60
    )
    after = time.time_ns()
    span, children = collector.wait_for(trace_id)

    assert answer.headers["traceresponse"] == f"00-{trace_id}-{span.span_id.hex()}-01"
    assert span.name == "POST /v1/models/{name}/classify"
    assert span.parent_span_id.hex() == span_id
    assert span.trace_state == "vendor=7"
    assert span.status.code == Status.STATUS_CODE_UNSET
    about = attributes(span)
    assert about["http.request.method"] == "POST"
    assert about["url.scheme"] == "http"
    assert about["http.route"] == "/v1/models/{name}/classify"
    assert about["http.response.status_code"] == 200
    assert "error.type" not in about
    assert (about["clipserve.model"], about["clipserve.version"]) == ("uniformer_tiny_shapes", "1")

    assert [child.name for child in children] == ["receive", "queue.decode", "decode", "queue.batch", "infer", "answer"]
    assert {child.parent_span_id for child in children} == {span.span_id}
    # One after the other, within the server's span, within the client's request.
    times = [(child.start_time_unix_nano, child.end_time_unix_nano) for child in children]
    flat = [before, span.start_time_unix_nano, *(moment for pair in times for moment in pair)]
    flat += [span.end_time_unix_nano, after]
    # Clocks of the day may be set while the test runs, by less than this.
    assert all(later - earlier > -1_000_000 for earlier, later in pairwise(flat))
    sizes = [attributes(child).get("clipserve.batch_size") for child in children]
    assert sizes == [None, None, None, None, answer.json()["batch_size"], None]
    told = answer.json()["timing_seconds"]
    assert seconds(children[2]) == pytest.approx(told["decode"], abs=0.005)
    assert seconds(children[1]) + seconds(children[3]) == pytest.approx(told["queue"], abs=0.005)
    assert seconds(children[4]) == pytest.approx(told["inference"], abs=0.005)


def test_resource_says_whose_spans_they_are(traced: RunningServer, collector: Collector) -> None:
    trace_id, _, headers = traceparent()
    httpx.get(f"{traced.url}/v1/models", headers=headers)
    collector.wait_for(trace_id)
    (resource,) = [resource for resource, span in collector.spans if span.trace_id.hex() == trace_id]
    assert resource["service.name"] == "clipserve"
    assert resource["process.pid"] == traced.process.pid
    assert resource["deployment.environment.name"] == "tests"


def test_log_lines_carry_the_trace(traced: RunningServer, collector: Collector) -> None:
    trace_id, _, headers = traceparent()
    httpx.get(f"{traced.url}/v1/models", headers={**headers, "X-Request-Id": "with-trace"})
    own = httpx.get(f"{traced.url}/v1/models", headers={"X-Request-Id": "own-trace"})
    lines = {line["request_id"]: line for line in map(json.loads, traced.log.read_text().splitlines())}
    assert lines["with-trace"]["trace_id"] == trace_id
    # Without a trace of its own a request begins one.
    span, _ = collector.wait_for(lines["own-trace"]["trace_id"])
    # Sampled, and by a random number.
    assert own.headers["traceresponse"] == f"00-{span.trace_id.hex()}-{span.span_id.hex()}-03"
    assert span.parent_span_id == b""


def test_media_that_cannot_be_decoded_are_the_clients_error(traced: RunningServer, collector: Collector) -> None:
    trace_id, _, headers = traceparent()
    answer = httpx.post(f"{traced.url}/v1/classify", content=CLIP[: len(CLIP) // 8], headers=headers, timeout=60)
    code = answer.json()["code"]
    assert (answer.status_code, code) == (422, "undecodable_media")
    span, children = collector.wait_for(trace_id)
    assert span.status.code == Status.STATUS_CODE_UNSET
    assert attributes(span)["error.type"] == code
    assert attributes(span)["http.response.status_code"] == 422
    assert [child.name for child in children] == ["receive", "queue.decode", "decode", "answer"]
    assert [attributes(child).get("error.type") for child in children] == [None, None, code, None]


def test_failure_of_the_server_is_an_error(traced: RunningServer, collector: Collector) -> None:
    trace_id, _, headers = traceparent()
    answer = httpx.post(f"{traced.url}/v1/segment", content=CLIP, headers=headers, timeout=60)
    assert answer.status_code == 504
    span, _ = collector.wait_for(trace_id)
    assert span.status.code == Status.STATUS_CODE_ERROR
    assert attributes(span)["error.type"] == "504"


def test_path_that_does_not_exist_names_no_route(traced: RunningServer, collector: Collector) -> None:
    trace_id, _, headers = traceparent()
    assert httpx.get(f"{traced.url}/v1/no/such/thing", headers=headers).status_code == 404
    span, children = collector.wait_for(trace_id)
    assert (span.name, children) == ("GET", [])
    assert {"http.route", "clipserve.model", "clipserve.version"}.isdisjoint(attributes(span))
    assert attributes(span)["error.type"] == "not_found"


def test_inference_protocol_is_traced_too(traced: RunningServer, collector: Collector) -> None:
    trace_id, span_id, headers = traceparent()
    with InferenceServerClient(traced.url.removeprefix("http://")) as client:
        clips = InferInput("clip", [2], "BYTES")
        clips.set_data_from_numpy(np.array([CLIP, CLIP], dtype=np.object_))
        client.infer("uniformer_tiny_shapes", [clips], headers=headers)
    span, children = collector.wait_for(trace_id)
    assert (span.name, span.parent_span_id.hex()) == ("POST /v2/models/{name}/infer", span_id)
    names = [child.name for child in children]
    assert sorted(names[1:-1]) == sorted(["queue.decode", "decode", "queue.batch", "infer"] * 2)
    assert (names[0], names[-1]) == ("receive", "answer")


def test_client_that_asked_not_to_be_sampled_is_not_and_probes_never_are(
    traced: RunningServer, collector: Collector
) -> None:
    unsampled, _, headers = traceparent()
    headers["traceparent"] = headers["traceparent"].removesuffix("01") + "00"
    assert httpx.post(f"{traced.url}/v1/classify", content=CLIP, headers=headers, timeout=60).status_code == 200
    probed = []
    for path in ("/healthz", "/readyz", "/metrics", "/v2/health/ready"):
        trace_id, _, headers = traceparent()
        assert httpx.get(traced.url + path, headers=headers).status_code == 200
        probed.append(trace_id)
    last, _, headers = traceparent()
    httpx.get(f"{traced.url}/v1/models", headers=headers)
    collector.wait_for(last)
    for trace_id in (unsampled, *probed):
        assert collector.of_trace(trace_id) == []


def test_what_was_not_sent_yet_is_sent_at_the_end_by_every_process(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with collecting() as collector:
        monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", collector.url)
        monkeypatch.setenv("OTEL_BSP_SCHEDULE_DELAY", "600000")
        monkeypatch.setenv("OTEL_SERVICE_NAME", "ours")
        with serving(tmp_path, tracing=True, processes=2, decode_workers=1) as server:
            ids = []
            # A connection each, which any of the processes takes.
            for _ in range(16):
                trace_id, _, headers = traceparent()
                assert httpx.get(f"{server.url}/v1/models", headers=headers).status_code == 200
                ids.append(trace_id)
            assert collector.spans == []
            assert server.terminate() == 0
        assert {span.trace_id.hex() for _, span in collector.spans} == set(ids)
        assert {resource["service.name"] for resource, _ in collector.spans} == {"ours"}


def test_collector_that_is_not_there_harms_nobody(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", f"http://127.0.0.1:{free_port()}")
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_TIMEOUT", "1")
    with serving(tmp_path, tracing=True, decode_workers=1) as server:
        assert httpx.post(f"{server.url}/v1/classify", content=CLIP, timeout=60).status_code == 200
        assert server.terminate() == 0


def run(code: str) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "CLIPSERVE_TRACING": "true"}
    return subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, env=environment, capture_output=True, text=True, check=False, timeout=60
    )


@pytest.mark.parametrize("verb", ["serve", "doctor"])
def test_missing_extra_stops_the_start_with_the_cure(verb: str) -> None:
    blocked = "import sys; sys.modules['opentelemetry.exporter'] = None; from service.cli import main"
    done = run(f"{blocked}; sys.exit(main(['{verb}']))")
    assert done.returncode == (2 if verb == "serve" else 1)
    assert "CLIPSERVE_TRACING: tracing='true'" in done.stdout + done.stderr
    assert "pip install 'clipserve[otel]'" in done.stdout + done.stderr


def test_nothing_of_it_is_loaded_when_it_is_off() -> None:
    code = "import sys; from service.app import create_app; from service.settings import Settings; "
    code += "create_app(Settings()); print([name for name in sys.modules if name.startswith('opentelemetry.sdk')])"
    assert run(code).stdout.strip() == "[]"

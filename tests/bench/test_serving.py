"""The benchmark of the server, against servers that do not do as it takes for granted."""

import re
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from itertools import count
from pathlib import Path
from urllib.parse import urlsplit

import httpx
import pytest

from bench import serving
from bench.raw_pipeline import RawPipeline
from demo.local_server import LocalServer
from service.errors import MediaLimitError
from service.heartbeat import SECONDS
from service.load import Load
from tests.server import ROOT, RunningServer


@contextmanager
def answering(status: Callable[[], int]) -> Iterator[LocalServer]:
    """Run a server that answers every POST at once and closes the connection."""

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            self.rfile.read(int(self.headers["Content-Length"]))
            self.send_response(status())
            self.send_header("Content-Length", "0")
            self.end_headers()

        def log_message(self, *_: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            yield LocalServer(server.server_port, 0)
        finally:
            server.shutdown()
            thread.join()


def test_refusal_ends_many_requests() -> None:
    answers = count(1)
    with (
        answering(lambda: 429 if next(answers) == 50 else 200) as server,
        pytest.raises(SystemExit, match="answered 429"),
    ):
        serving._post_times(server, b"clip", 10_000)
    assert next(answers) < 10_000


def test_rate_is_of_a_server_that_answers_everything() -> None:
    answers = count(1)
    with (
        answering(lambda: 429 if next(answers) % 50 == 0 else 200) as server,
        pytest.raises(SystemExit, match="answered 429"),
    ):
        serving._closed_loop(server, b"clip", 2, 1)


def test_event_loop_is_watched_while_callers_call(
    server: RunningServer, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    port = urlsplit(server.url).port
    assert port is not None
    running = LocalServer(port, server.process.pid)
    called: list[float] = []

    class Alone:
        """The pipeline without a server, at work for long."""

        def rate(self, clip: bytes, seconds: float) -> float:
            time.sleep(1)
            return 1

    def call(*_: object) -> Load:
        began = time.perf_counter()
        time.sleep(0.4)
        called.append(time.perf_counter() - began)
        return Load(seconds=1)

    monkeypatch.setattr(serving, "RawProcesses", lambda *_: nullcontext(Alone()))
    monkeypatch.setattr(serving, "_server", lambda: nullcontext(running))
    monkeypatch.setattr(serving, "_closed_loop", call)
    serving.throughput(b"clip")
    found = re.search(r"of (\d+) wakings .* idle process \d+ of (\d+)$", capsys.readouterr().out.strip())
    assert found
    # The first was to warm up. Asking for the figures takes a little as well, and a busy machine wakes up less often.
    most = sum(called[1:]) / SECONDS
    for wakings in map(int, found.groups()):
        assert most / 4 < wakings <= most + 8 * len(called)


def test_server_answers_with_the_artefact_that_the_pipeline_alone_has(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(ROOT)
    monkeypatch.setenv("CLIPSERVE_REPOSITORY", str(tmp_path))
    with serving._server() as server:
        answer = httpx.post(f"{server.url}/v1/classify", content=Path("demo/media/sample.mp4").read_bytes()).json()
    assert Path("model_repository", answer["model"], answer["version"]) == serving.ARTEFACT


def test_pipeline_alone_has_the_settings_of_the_server(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)
    monkeypatch.setenv("CLIPSERVE_MODELS", '{"uniformer_tiny_shapes": {"runtime": "openvino"}}')
    monkeypatch.setenv("CLIPSERVE_MAX_SECONDS", "1")
    pipeline = RawPipeline(serving.ARTEFACT, serving._settings(), threads=1)
    assert pipeline._runtime.name == "openvino-cpu"
    with pytest.raises(MediaLimitError):
        pipeline.run(Path("demo/media/sample.mp4").read_bytes())


def test_runtime_that_the_pipeline_alone_cannot_be_held_to_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CLIPSERVE_RUNTIME", "auto")
    with pytest.raises(SystemExit, match="set runtime to onnxruntime or openvino"):
        serving._settings()


def test_server_is_asked_past_the_proxy_of_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HTTP_PROXY", "http://127.0.0.1:9")
    monkeypatch.delenv("NO_PROXY", raising=False)
    monkeypatch.delenv("no_proxy", raising=False)
    with answering(lambda: 200) as server:
        assert serving._post(server, "", b"clip", 10).status_code == 200

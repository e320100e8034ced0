"""A server that has no file descriptors left, or had too few from the start."""

import os
import resource
import time
from contextlib import ExitStack
from pathlib import Path

import httpx

from tests.server import serving
from tests.service.test_connection import connected

CLIP = (Path(__file__).parents[2] / "demo/media/sample.mp4").read_bytes()


def test_idle_connections_leave_descriptors_for_requests_and_keep_the_event_loop_free(tmp_path: Path) -> None:
    with serving(tmp_path, decode_workers=1, head_timeout=60) as server, httpx.Client(base_url=server.url) as early:
        pid = server.process.pid
        assert early.get("/healthz").status_code == 200
        most = len(os.listdir(f"/proc/{pid}/fd")) + 50
        resource.prlimit(pid, resource.RLIMIT_NOFILE, (most, most))
        began = time.monotonic()
        with ExitStack() as idle:
            for _ in range(200):
                idle.enter_context(connected(server))
            server.wait_for(lambda: "no connection is accepted for a second: " in server.log.read_text())
            for _ in range(5):
                asked = time.monotonic()
                assert early.get("/healthz").status_code == 200
                assert time.monotonic() - asked < 1
                time.sleep(0.5)
            assert early.post("/v1/classify", content=CLIP, timeout=20).status_code == 200
        # Those that waited are found to be closed already.
        assert httpx.get(f"{server.url}/healthz", timeout=20).status_code == 200
        log = server.log.read_text()
        assert log.count("no connection is accepted") <= time.monotonic() - began + 2
        assert "Traceback" not in log

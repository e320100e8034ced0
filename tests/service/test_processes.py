"""Several server processes behind one port."""

import os
import resource
import signal
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx
import pytest

from demo.local_server import free_port
from tests.command import clipserve
from tests.processes import children, is_running
from tests.server import RunningServer, begun_upload, serving
from tests.waiting import wait_for

CLIP = (Path(__file__).parents[2] / "demo/media/sample.mp4").read_bytes()


def two_processes(server: RunningServer) -> set[int]:
    pids = children(server.process.pid)
    assert len(pids) == 2
    return pids


def wait_for_exit(pids: set[int]) -> None:
    wait_for(lambda: not any(map(is_running, pids)))


def classify(server: RunningServer) -> httpx.Response:
    return httpx.post(f"{server.url}/v1/classify", content=CLIP, timeout=60)


def test_killed_process_is_replaced_and_termination_ends_all(tmp_path: Path) -> None:
    with serving(tmp_path, processes=2, decode_workers=1, drain_delay=5) as server:
        # One that ends earlier has failed to start, and with it the server.
        server.wait_for(lambda: "all 2 server processes take requests" in server.log.read_text())
        before = two_processes(server)
        os.kill(victim := min(before), signal.SIGKILL)

        def replaced() -> bool:
            # Whoever is not ready does not listen: the other one answers everything.
            assert classify(server).status_code == 200
            return server.log.read_text().count("ready: 1 decode workers") == 3

        server.wait_for(replaced)
        after = two_processes(server)
        assert before & after == before - {victim}

        def client(_: int) -> list[int]:
            statuses = []
            while not statuses or statuses[-1] == 200:
                statuses.append(classify(server).status_code)
            return statuses

        with ThreadPoolExecutor(4) as executor:
            clients = [executor.submit(client, number) for number in range(4)]
            time.sleep(1)
            server.process.send_signal(signal.SIGTERM)
            statuses = [future.result() for future in clients]
        assert {status for received in statuses for status in received} == {200, 503}
        assert server.process.wait(60) == 0
        assert not any(map(is_running, after))
        with pytest.raises(httpx.ConnectError):
            httpx.get(f"{server.url}/readyz")


def test_parent_that_cannot_create_a_process_for_now_goes_on_with_the_others(tmp_path: Path) -> None:
    with serving(tmp_path, processes=2, decode_workers=1) as server:
        server.wait_for(lambda: "all 2 server processes take requests" in server.log.read_text())
        before, parent = two_processes(server), server.process.pid
        limits = resource.prlimit(parent, resource.RLIMIT_NOFILE)
        resource.prlimit(parent, resource.RLIMIT_NOFILE, (3, limits[1]))
        os.kill(victim := min(before), signal.SIGKILL)
        server.wait_for(lambda: server.log.read_text().count("could not be started: [Errno 24]") > 1)
        assert {pid for pid in children(parent) if is_running(pid)} == before - {victim}
        assert classify(server).status_code == 200
        resource.prlimit(parent, resource.RLIMIT_NOFILE, limits)
        server.wait_for(lambda: server.log.read_text().count("ready: 1 decode workers") == 3)
        assert before & two_processes(server) == before - {victim}
        assert server.terminate() == 0
    assert "Traceback" not in server.log.read_text()


def test_processes_do_not_outlive_their_parent(tmp_path: Path) -> None:
    with serving(tmp_path, processes=2, decode_workers=1) as server:
        orphans = two_processes(server)
        server.process.kill()
        wait_for_exit(orphans)


def test_second_signal_ends_all_processes_at_once(tmp_path: Path) -> None:
    with serving(tmp_path, processes=2, decode_workers=1, drain_delay=300, drain_timeout=300) as server:
        pids = two_processes(server)
        server.process.send_signal(signal.SIGTERM)
        server.wait_for(lambda: httpx.get(f"{server.url}/readyz").status_code == 503)
        server.process.send_signal(signal.SIGTERM)
        server.process.wait(30)
        wait_for_exit(pids)


def test_termination_of_parent_and_processes_alike_finishes_what_was_accepted(tmp_path: Path) -> None:
    """As systemd stops a service (KillMode=control-group)."""
    with serving(tmp_path, processes=2, decode_workers=1, upload_idle_timeout=60) as server:
        pids = two_processes(server)
        with begun_upload(server, CLIP, sent=100) as accepted:
            for pid in (server.process.pid, *pids):
                os.kill(pid, signal.SIGTERM)
            server.wait_for(lambda: "draining: " in server.log.read_text())
            for pid in filter(is_running, pids):
                os.kill(pid, signal.SIGTERM)
            time.sleep(0.5)
            accepted.sendall(CLIP[100:])
            assert accepted.recv(65536).startswith(b"HTTP/1.1 200")
        assert server.process.wait(30) == 0


def test_failed_start_ends_the_parent_with_a_reason(tmp_path: Path) -> None:
    ended = clipserve("serve", "--processes", "2", "--port", str(free_port()), "--repository", str(tmp_path))
    assert ended.returncode == 1
    assert "holds no model" in ended.stderr


@pytest.mark.parametrize("processes", [1, 2])
def test_failed_start_ends_with_its_reason(tmp_path: Path, processes: int) -> None:
    run = clipserve("serve", "--repository", str(tmp_path), "--port", "0", "--processes", str(processes))
    assert run.returncode == 1
    lines = run.stderr.splitlines()
    # The parent of several adds that they failed.
    reasons = [line for line in lines if " CRITICAL " in line and "service.supervisor" not in line]
    assert reasons
    for reason in reasons:
        assert f"{tmp_path} holds no model" in reason
        # Of two processes the other one may still say something, before it is ended as well.
        process = reason.split()[3]
        assert [line for line in lines if process in line][-1] == reason
    assert "startup" not in run.stderr
    assert "Traceback" not in run.stderr

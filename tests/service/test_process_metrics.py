"""What /metrics says of the process that answers, held against what the kernel says."""

import os
import signal
from importlib.metadata import version
from pathlib import Path

import httpx
import pytest
from prometheus_client.parser import text_string_to_metric_families

from service.settings import Settings
from tests.processes import is_running
from tests.server import ROOT, RunningServer, serving

CLIP = (ROOT / "demo/media/sample.mp4").read_bytes()
PAGE_BYTES = os.sysconf("SC_PAGE_SIZE")
TICKS = os.sysconf("SC_CLK_TCK")


def series_of(server: RunningServer) -> dict[str, float]:
    """Return the series without labels of a scrape."""
    families = text_string_to_metric_families(httpx.get(f"{server.url}/metrics").text)
    return {sample.name: sample.value for family in families for sample in family.samples if not sample.labels}


def test_durations_are_told_apart_up_to_what_a_request_may_take(server: RunningServer) -> None:
    httpx.post(f"{server.url}/v1/classify", content=CLIP, timeout=60)
    families = {family.name: family for family in text_string_to_metric_families(server.metrics())}
    for stage in ("request", "decode", "queue", "inference"):
        samples = families[f"clipserve_{stage}_duration_seconds"].samples
        bounds = {float(sample.labels["le"]) for sample in samples if "le" in sample.labels}
        assert {bound for bound in bounds if 10 < bound < float("inf")} == {30, 60, 120}
        assert Settings().request_timeout in bounds


def test_lost_decode_workers_are_counted_by_what_ended_them(tmp_path: Path) -> None:
    name = 'clipserve_decode_workers_lost_total{reason="%s"} %.1f'
    with serving(tmp_path, decode_workers=1) as server:
        # From zero on, or nothing would see the first as an increase.
        assert all(name % (reason, 0) in server.metrics() for reason in ("crash", "timeout", "stopped"))
        (victim,) = server.worker_pids()
        os.kill(victim, signal.SIGSEGV)
        server.wait_for(lambda: not is_running(victim))
        assert httpx.post(f"{server.url}/v1/classify", content=CLIP, timeout=60).status_code == 200
        assert name % ("crash", 1) in server.metrics()
        assert name % ("stopped", 0) in server.metrics()


def statistics_of(pid: int) -> list[str]:
    """Return the fields of /proc/[pid]/stat from the third on."""
    return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()


def started_at(pid: int) -> float:
    """Return when a process began, seconds since 1970."""
    lines = Path("/proc/stat").read_text().splitlines()
    boot = next(float(line.split()[1]) for line in lines if line.startswith("btime "))
    return boot + float(statistics_of(pid)[19]) / TICKS


def test_metrics_tell_of_the_process_and_its_version(server: RunningServer) -> None:
    pid = server.process.pid
    series = series_of(server)
    assert series["process_start_time_seconds"] == pytest.approx(started_at(pid), abs=0.01)
    resident = int(statistics_of(pid)[21]) * PAGE_BYTES
    assert series["process_resident_memory_bytes"] == pytest.approx(resident, rel=0.2)
    # With the connection that asked, and the folder that is looked through.
    assert abs(series["process_open_fds"] - len(os.listdir(f"/proc/{pid}/fd"))) <= 10
    assert series["process_open_fds"] < series["process_max_fds"]
    utime, stime = map(int, statistics_of(pid)[11:13])
    # In ticks, since the sum of two times is not a number that is held exactly.
    assert 0 < round(series["process_cpu_seconds_total"] * TICKS) <= utime + stime
    assert f'clipserve_build_info{{version="{version("clipserve")}"}} 1.0' in httpx.get(f"{server.url}/metrics").text


def test_metrics_are_those_of_the_process_that_answers_not_of_its_parent(tmp_path: Path) -> None:
    with serving(tmp_path, processes=2, decode_workers=1) as server:
        series = series_of(server)
        children = Path(f"/proc/{server.process.pid}/task").glob("*/children")
        began = [started_at(int(pid)) for file in children for pid in file.read_text().split()]
        assert len(began) == 2
        assert any(series["process_start_time_seconds"] == pytest.approx(one, abs=0.005) for one in began)
        assert series["process_start_time_seconds"] > started_at(server.process.pid)

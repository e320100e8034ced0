"""Measure the server against its own pipeline without HTTP, and under clients that misbehave.

`python -m bench.serving [PART ...]`, parts being throughput, throughput_hd, latency, abandoned, overload, memory; all
when none is named. Clips of ten seconds (H.264, 340x256 but for throughput_hd) go to the demo's classifier, with the
settings of the environment and else the defaults unless a line says otherwise. Client and server share the cores.
"""

from __future__ import annotations

import argparse
import struct
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from statistics import mean, median

import httpx
from tqdm import tqdm

from bench.clips import H264_DEFAULTS, make_clip
from bench.event_loop import Delays, watched_event_loop
from bench.load import Caller, OpenLoad, closed_loop, open_loop
from bench.memory import forget_peak, peak_memory, resident_memory
from bench.raw_pipeline import RawPipeline, RawProcesses
from bench.turns import seconds_of, spread
from demo.arguments import one_of
from demo.local_server import LocalServer, end_on_signals, local_server
from service.configuration import read_configuration
from service.load import Load
from service.machine import plan_threads
from service.runtimes.kinds import CPU_KINDS
from service.settings import Settings

REPOSITORY = Path("model_repository")
# With its version: without one the server would take the newest.
MODEL = "uniformer_tiny_shapes/1"
ARTEFACT = REPOSITORY / MODEL
CALLERS = 8
# Turns of overload, and how long the capacity before, between and after them is measured.
OVERLOADS, CAPACITY_SECONDS = 3, 20
# A request that fills several batches, and one that fills one.
MANY_VIEWS = "?clips=10&crops=3"
ONE_BATCH = "?clips=8"

_server = partial(local_server, repository=REPOSITORY, default_model=MODEL)


def throughput(clip: bytes) -> None:
    """Compare clips a second through HTTP with a pipeline a core without it, in turns."""
    settings, cores = _settings(), plan_threads(0, 0).cores
    raw: list[float] = []
    served: list[Load] = []
    total = Delays()
    with RawProcesses(ARTEFACT, settings, cores) as processes, _server() as server:
        processes.rate(clip, 3)
        _closed_loop(server, clip, CALLERS, 3)
        for _ in tqdm(range(5), "throughput", unit="turn", leave=False):
            raw.append(processes.rate(clip, 10))
            with watched_event_loop(server) as delays:
                served.append(_closed_loop(server, clip, CALLERS, 10))
            total += delays
    rates = [load.rate for load in served]
    ratio = median(http / without for http, without in zip(rates, raw, strict=True))
    print(f"pipeline alone, {cores} processes    {spread(raw)} clips/s")
    print(f"over HTTP, {CALLERS} callers         {spread(rates)} clips/s")
    print(f"over HTTP / alone             {ratio:.3f}")
    print(f"event loop                    {total}")


def throughput_hd(_clip: bytes) -> None:
    """Do the same with clips of 1280x720, which take longer to decode."""
    throughput(make_clip(H264_DEFAULTS, 720, 1280))


def latency(clip: bytes) -> None:
    """Compare one caller's latency with decoding and inference in one process, in turns."""
    settings = _settings()
    threads = plan_threads(settings.decode_workers, settings.runtime_threads, settings.processes).runtime_threads
    pipeline = RawPipeline(ARTEFACT, settings, threads)
    alone: list[float] = []
    served: list[float] = []
    with _server() as server:
        _closed_loop(server, clip, 1, 2)
        for _ in tqdm(range(5), "latency", unit="turn", leave=False):
            alone.append(pipeline.seconds(clip, 50))
            served.append(_closed_loop(server, clip, 1, 4).percentile(50))
    # Of turns, not of medians: the machine's speed wanders.
    difference = median(http - without for http, without in zip(served, alone, strict=True))
    print(f"pipeline alone, median        {1000 * median(alone):.1f} ms")
    print(f"over HTTP, one caller         {1000 * median(served):.1f} ms")
    print(f"difference                    {1000 * difference:.1f} ms in the median of the turns")


def abandoned(clip: bytes) -> None:
    """See how long a patient caller waits for the work of five that have given up."""
    with _server() as server:
        patient = Caller(server, clip, MANY_VIEWS)

        def ask() -> None:
            _check(patient.post())

        alone = median(seconds_of(ask) for _ in range(5))
        answer = _post(server, ONE_BATCH, clip, 60).json()
        assert answer["batch_size"] == len(answer["views"]), "the views did not run as one batch"
        batch = answer["timing_seconds"]["inference"]
        waits: list[float] = []
        for _ in range(5):
            with ThreadPoolExecutor(5) as threads:
                for giving_up in [threads.submit(_give_up, server, clip, alone / 2) for _ in range(5)]:
                    giving_up.result()
            waits.append(seconds_of(ask) - alone)
            time.sleep(1)
    print(f"a full batch                  {batch:.2f} s; the patient caller's request alone {alone:.2f} s")
    print(f"waited after five gave up     {median(waits):.2f} s, at most {max(waits):.2f} s")


def overload(clip: bytes, seconds: float = 60, deadline: float = 5) -> None:
    """Offer twice what the server can do for a minute, in turns with finding out what that is."""
    print(f"deadline (request_timeout)    {deadline:g} s")
    ratios: list[float] = []
    with _server(request_timeout=deadline) as server:
        _closed_loop(server, clip, CALLERS, 3)
        before = _closed_loop(server, clip, CALLERS, CAPACITY_SECONDS).rate
        for _ in range(OVERLOADS):
            forget_peak(server.pid)
            with watched_event_loop(server) as delays:
                load = open_loop(server, clip, 2 * before, seconds)
            peak = peak_memory(server.pid)
            after = _closed_loop(server, clip, CALLERS, CAPACITY_SECONDS).rate
            # The machine's speed wanders: what counts is the capacity right before and right after.
            ratios.append(load.rate / mean((before, after)))
            print(f"capacity, {CALLERS} callers           {before:.1f} clips/s before, {after:.1f} after")
            _tell_overload(load, seconds, ratios[-1])
            print(f"  server's resident memory    at most {peak / 1e6:.0f} MB")
            print(f"  event loop                  {delays}", flush=True)
            before = after
    print(f"goodput / capacity, median    {median(ratios):.3f}")


def _tell_overload(load: OpenLoad, seconds: float, ratio: float) -> None:
    offered = load.statuses.total() / seconds
    print(f"  offered                     {offered:.1f} a second for {seconds:g} s; {load.late} sent late")
    print(f"  answered                    {dict(sorted(load.statuses.items()))}")
    print(f"  goodput / capacity          {ratio:.3f}")
    print(f"  latency of the answered     p50 {load.percentile(50):.2f} s, p99 {load.percentile(99):.2f} s")


def memory(clip: bytes) -> None:
    """See what a large upload and many small ones leave in the server's own memory."""
    large = clip + struct.pack(">I4s", 300_000_000, b"free") + bytes(300_000_000 - 8)
    small = Path("demo/media/sample.mp4").read_bytes()
    with _server() as server:
        _post_times(server, small, 200)
        settled = resident_memory(server.pid)
        forget_peak(server.pid)
        status = Caller(server, large).post()
        risen = peak_memory(server.pid) - settled
        print(f"an upload of 300 MB ({status})    raises the server's resident memory by {risen / 1e6:.1f} MB")
    with _server() as server:
        _post_times(server, small, 200)
        settled = resident_memory(server.pid)
        _post_times(server, small, 5000)
        later = resident_memory(server.pid)
    print(f"after 200 requests            {settled / 1e6:.1f} MB")
    print(f"after 5,000 more              {later / 1e6:.1f} MB, {later / settled:.3f} of that")


def _settings() -> Settings:
    """Return the server's settings of the model, for the pipeline alone to do the same work."""
    settings = read_configuration({}).settings.of_model(ARTEFACT.parent.name)
    if settings.runtime not in CPU_KINDS:
        # Each process might find another one to be the fastest, and a GPU is not for as many as there are cores.
        raise SystemExit(
            f"the pipeline alone does not run on {settings.runtime}: set runtime to {' or '.join(CPU_KINDS)}"
        )
    return settings


def _closed_loop(server: LocalServer, clip: bytes, callers: int, seconds: float) -> Load:
    """Let so many callers send one request after the other, which are all to be answered."""
    load = closed_loop(server, clip, callers, seconds)
    for status in load.statuses:
        _check(status)
    return load


def _post_times(server: LocalServer, clip: bytes, times: int) -> None:
    mine = threading.local()

    def post(_: int) -> None:
        if not hasattr(mine, "caller"):
            mine.caller = Caller(server, clip)
        _check(mine.caller.post())

    with ThreadPoolExecutor(CALLERS) as threads:
        posted = threads.map(post, range(times))
        for _ in tqdm(posted, "requests", times, unit="request", leave=False):
            pass


def _post(server: LocalServer, query: str, clip: bytes, timeout: float) -> httpx.Response:
    # Past any proxy that the environment names: the address is this machine.
    return httpx.post(f"{server.url}/v1/classify{query}", content=clip, timeout=timeout, trust_env=False)


def _give_up(server: LocalServer, clip: bytes, seconds: float) -> None:
    try:
        _post(server, MANY_VIEWS, clip, seconds)
    except httpx.TimeoutException:
        return
    raise SystemExit("an answer came before the client gave up")


def _check(status: int) -> None:
    if status != 200:
        raise SystemExit(f"the server answered {status}")


PARTS: dict[str, Callable[[bytes], None]] = {
    part.__name__: part for part in (throughput, throughput_hd, latency, abandoned, overload, memory)
}


def main() -> None:
    """Run the parts that are asked for."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("parts", nargs="*", type=one_of(PARTS), metavar="PART", help=", ".join(PARTS))
    arguments = parser.parse_args()
    end_on_signals()
    clip = make_clip(H264_DEFAULTS)
    for name in arguments.parts or PARTS:
        print(f"\n{name}", flush=True)
        PARTS[name](clip)


if __name__ == "__main__":
    main()

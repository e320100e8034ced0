"""Put load on POST /v1/classify: callers that wait for their answers, and callers that come when they come.

Bodies are sent from memory over kept connections by the standard library's client, which costs about a third of a
millisecond a request of the cores that the server under test runs on.
"""

from __future__ import annotations

import threading
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from demo.local_server import LocalServer
from service import load as client_load
from service.client import Client
from service.load import Load

LATE_SECONDS = 0.02
CALLERS = 256


@dataclass
class OpenLoad(Load):
    """What a run of requests that do not wait for each other came to.

    Attributes:
        late: Requests that the generator itself sent more than `LATE_SECONDS` after their time.
    """

    late: int = 0


class Caller(client_load.Caller):
    """One client with a connection of its own, which it keeps while the server does."""

    def __init__(self, server: LocalServer, clip: bytes, query: str = "") -> None:
        super().__init__(Client(server.url), f"/v1/classify{query}", clip)


def closed_loop(server: LocalServer, clip: bytes, callers: int, seconds: float, query: str = "") -> Load:
    """Let so many callers send one request after the other, as service.load does."""
    return client_load.closed_loop(lambda: Caller(server, clip, query), callers, seconds)


def open_loop(server: LocalServer, clip: bytes, rate: float, seconds: float) -> OpenLoad:
    """Send requests at random times (a Poisson process), whether or not earlier ones were answered.

    Latencies count from the time at which a request was to be sent, so that a server that stalls cannot hide it.

    Args:
        server: Where to.
        clip: Body of each.
        rate: Requests a second, on average.
        seconds: For how long they are sent.
    """
    load, lock, mine = OpenLoad(), threading.Lock(), threading.local()
    times = _arrivals(rate, seconds)
    began = time.perf_counter()

    def call(due: float) -> None:
        if not hasattr(mine, "caller"):
            mine.caller = Caller(server, clip)
        late = time.perf_counter() - due > LATE_SECONDS
        status = mine.caller.post()
        with lock:
            load.late += late
            load.count(status, time.perf_counter() - due)

    with ThreadPoolExecutor(CALLERS) as threads:
        sent = []
        for due in began + times:
            time.sleep(max(0.0, due - time.perf_counter()))
            sent.append(threads.submit(call, due))
        for request in sent:
            request.result()
    load.seconds = time.perf_counter() - began
    return load


def _arrivals(rate: float, seconds: float) -> NDArray[np.float64]:
    gaps = np.random.default_rng(0).exponential(1 / rate, round(2 * rate * seconds))
    times = np.cumsum(gaps)
    return times[times < seconds]

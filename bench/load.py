"""Put load on POST /v1/classify: callers that wait for their answers, and callers that come when they come.

Bodies are sent from memory over kept connections by the standard library's client, which costs about a third of a
millisecond a request of the cores that the server under test runs on.
"""

from __future__ import annotations

import socket
import threading
import time
from collections import Counter
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from http.client import HTTPConnection, HTTPException

import numpy as np
from numpy.typing import NDArray

from demo.local_server import LocalServer

LATE_SECONDS = 0.02
SETTLE_SECONDS = 1.0
CALLERS = 256
TIMEOUT = 120


@dataclass
class Load:
    """What a run of load came to.

    Attributes:
        seconds: How long answers were counted.
        statuses: Answers by status; 0 for none.
        latencies: Seconds of each request that was answered with 200.
        late: Requests that the generator itself sent more than `LATE_SECONDS` after their time.
    """

    seconds: float = 0.0
    statuses: Counter[int] = field(default_factory=Counter)
    latencies: list[float] = field(default_factory=list)
    late: int = 0

    @property
    def rate(self) -> float:
        """Requests answered with 200, a second."""
        return self.statuses[200] / self.seconds

    def percentile(self, percent: float) -> float:
        """Return the latency, seconds, that so many of a hundred good answers keep."""
        return float(np.percentile(self.latencies, percent))


class Caller:
    """One client with a connection of its own, which it keeps while the server does."""

    def __init__(self, server: LocalServer, clip: bytes, query: str = "") -> None:
        self._connection = HTTPConnection("127.0.0.1", server.port, timeout=TIMEOUT)
        self._clip = clip
        self._path = f"/v1/classify{query}"

    def post(self) -> int:
        """Send the clip; return the answer's status, or 0 if the connection was lost."""
        try:
            self._connection.request("POST", self._path, self._clip, {"Content-Type": "application/octet-stream"})
            if self._connection.sock is not None:
                self._connection.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            answer = self._connection.getresponse()
            answer.read()
            return answer.status
        except (OSError, HTTPException):
            self._connection.close()
            return 0


def closed_loop(server: LocalServer, clip: bytes, callers: int, seconds: float, query: str = "") -> Load:
    """Let so many callers send one request after the other.

    They begin `SETTLE_SECONDS` early and go on a little longer: what counts are the answers that come in `seconds`
    while all of them are at work.
    """
    load, lock = Load(seconds=seconds), threading.Lock()
    began = time.perf_counter() + SETTLE_SECONDS
    end = began + seconds

    def call() -> None:
        caller = Caller(server, clip, query)
        while (sent := time.perf_counter()) < end:
            status, answered = caller.post(), time.perf_counter()
            if began <= answered < end:
                with lock:
                    _count(load, status, answered - sent)

    with ThreadPoolExecutor(callers) as threads:
        for running in [threads.submit(call) for _ in range(callers)]:
            running.result()
    return load


def open_loop(
    server: LocalServer, clip: bytes, rate: float, seconds: float, each_second: Callable[[], None] = lambda: None
) -> Load:
    """Send requests at random times (a Poisson process), whether or not earlier ones were answered.

    Latencies count from the time at which a request was to be sent, so that a server that stalls cannot hide it.

    Args:
        server: Where to.
        clip: Body of each.
        rate: Requests a second, on average.
        seconds: For how long they are sent.
        each_second: Called about once a second meanwhile.
    """
    load, lock, mine = Load(), threading.Lock(), threading.local()
    times = _arrivals(rate, seconds)
    began = time.perf_counter()

    def call(due: float) -> None:
        if not hasattr(mine, "caller"):
            mine.caller = Caller(server, clip)
        late = time.perf_counter() - due > LATE_SECONDS
        status = mine.caller.post()
        with lock:
            load.late += late
            _count(load, status, time.perf_counter() - due)

    with ThreadPoolExecutor(CALLERS) as threads:
        tick = began
        for due in began + times:
            time.sleep(max(0.0, due - time.perf_counter()))
            threads.submit(call, due)
            if due >= tick:
                each_second()
                tick += 1
    load.seconds = time.perf_counter() - began
    return load


def _arrivals(rate: float, seconds: float) -> NDArray[np.float64]:
    gaps = np.random.default_rng(0).exponential(1 / rate, round(2 * rate * seconds))
    times = np.cumsum(gaps)
    return times[times < seconds]


def _count(load: Load, status: int, seconds: float) -> None:
    load.statuses[status] += 1
    if status == 200:
        load.latencies.append(seconds)

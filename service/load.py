"""Load on a server: callers that send the same body again and again, each as soon as it has its last answer.

One that is refused waits first for as long as it is told to (`Retry-After`), as clients should: what is measured is
what such clients get, and not how fast a server can refuse.
"""

from __future__ import annotations

import threading
import time
from collections import Counter
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field

import numpy as np

from service.client import Client, ClientError

SETTLE_SECONDS = 1.0


@dataclass
class Load:
    """What a run of load came to.

    Attributes:
        seconds: How long answers were counted.
        statuses: Answers by status; 0 for none.
        latencies: Seconds of each request that was answered with 200.
        waited: Seconds that callers waited as they were told, all together.
    """

    seconds: float = 0.0
    statuses: Counter[int] = field(default_factory=Counter)
    latencies: list[float] = field(default_factory=list)
    waited: float = 0.0

    def count(self, status: int, seconds: float) -> None:
        """Count an answer that took so long."""
        self.statuses[status] += 1
        if status == 200:
            self.latencies.append(seconds)

    @property
    def rate(self) -> float:
        """Requests answered with 200, a second."""
        return self.statuses[200] / self.seconds

    def percentile(self, percent: float) -> float:
        """Return the latency, seconds, that so many of a hundred good answers keep."""
        return float(np.percentile(self.latencies, percent))


class Caller:
    """One client that sends one body.

    Attributes:
        pause: Seconds that the last answer asks it to wait.
    """

    def __init__(self, client: Client, path: str, body: bytes) -> None:
        self._client = client
        self._path = path
        self._body = body
        self.pause = 0

    def post(self) -> int:
        """Send the body; return the answer's status, or 0 if the connection was lost."""
        self.pause = 0
        try:
            answer = self._client.post(self._path, self._body)
        except ClientError:
            return 0
        self.pause = answer.retry_after
        return answer.status


def closed_loop(new_caller: Callable[[], Caller], callers: int, seconds: float) -> Load:
    """Let so many callers send one request after the other.

    They begin `SETTLE_SECONDS` early and go on a little longer: what counts are the answers that come in `seconds`
    while all of them are at work.
    """
    load, lock = Load(seconds=seconds), threading.Lock()
    began = time.perf_counter() + SETTLE_SECONDS
    end = began + seconds

    def call() -> None:
        caller = new_caller()
        while (sent := time.perf_counter()) < end:
            status, answered = caller.post(), time.perf_counter()
            if began <= answered < end:
                with lock:
                    load.count(status, answered - sent)
            if caller.pause and answered < end:
                # Whoever would wait for longer than the load lasts is done.
                until = min(answered + caller.pause, end)
                time.sleep(until - answered)
                with lock:
                    load.waited += max(0.0, until - max(answered, began))

    with ThreadPoolExecutor(callers) as threads:
        for running in [threads.submit(call) for _ in range(callers)]:
            running.result()
    return load

"""The heartbeat of an event loop that does nothing: how late a server's would be through the machine alone."""

from __future__ import annotations

import asyncio
from multiprocessing import get_context
from multiprocessing.connection import Connection
from multiprocessing.synchronize import Event
from types import TracebackType

from prometheus_client import CollectorRegistry, Histogram

from service.heartbeat import Heartbeat


class IdleHeartbeat:
    """A process that only wakes up as often as a server's heartbeat; a context manager.

    Where other processes want all cores, or a hypervisor takes them away, it wakes up late as well. When the block
    begins, it has started: its wakings are those since then.

    Args:
        seconds: Delays longer than this are counted.
    """

    def __init__(self, seconds: float) -> None:
        context = get_context("spawn")
        self._stop = context.Event()
        self._answers, self._answering = context.Pipe(duplex=False)
        self._process = context.Process(target=_report_delays, args=(seconds, self._stop, self._answering))

    def __enter__(self) -> IdleHeartbeat:
        self._process.start()
        # With this end closed, a process that ends before its time is an error here and no wait for ever.
        self._answering.close()
        self._answers.recv()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stop.set()
        self._process.join()

    def counts(self) -> tuple[int, int]:
        """End it, and return how many of its wakings were late, and how many there were."""
        self._stop.set()
        late, wakings = self._answers.recv()
        return late, wakings


def _report_delays(seconds: float, stop: Event, answers: Connection) -> None:
    registry = CollectorRegistry()
    delays = Histogram("delay", "Of each waking, seconds.", buckets=[seconds], registry=registry)
    asyncio.run(_beat_until(stop, Heartbeat(delays), answers))
    wakings = registry.get_sample_value("delay_count") or 0
    answers.send((int(wakings - (registry.get_sample_value("delay_bucket", {"le": str(seconds)}) or 0)), int(wakings)))


async def _beat_until(stop: Event, heartbeat: Heartbeat, answers: Connection) -> None:
    heartbeat.start()
    answers.send("started")
    await asyncio.to_thread(stop.wait)
    heartbeat.stop()

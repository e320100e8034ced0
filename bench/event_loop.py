"""How late the event loop of a server wakes up, beside one that has nothing to do."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from prometheus_client.parser import text_string_to_metric_families

from bench.idle_heartbeat import IdleHeartbeat
from demo.local_server import DIRECT, LocalServer

BLOCKED_SECONDS = 0.02


@dataclass
class Delays:
    """How often both woke up, and how often that was over `BLOCKED_SECONDS` too late.

    Attributes:
        late, wakings: Of the server.
        idle_late, idle_wakings: Of the process that does nothing.
    """

    late: int = 0
    wakings: int = 0
    idle_late: int = 0
    idle_wakings: int = 0

    def __add__(self, other: Delays) -> Delays:
        return Delays(
            self.late + other.late,
            self.wakings + other.wakings,
            self.idle_late + other.idle_late,
            self.idle_wakings + other.idle_wakings,
        )

    def __str__(self) -> str:
        return (
            f"{self.late} of {self.wakings} wakings over {1000 * BLOCKED_SECONDS:g} ms late; "
            f"of an idle process {self.idle_late} of {self.idle_wakings}"
        )


@contextmanager
def watched_event_loop(server: LocalServer) -> Iterator[Delays]:
    """Count while the block lasts; the delays are there at its end.

    Both are counted in the same time, and the server's delays while it loads its models in neither.
    """
    delays = Delays()
    with IdleHeartbeat(BLOCKED_SECONDS) as idle:
        late, wakings = _counts(server)
        yield delays
        late_since, wakings_since = _counts(server)
        delays.idle_late, delays.idle_wakings = idle.counts()
    delays.late, delays.wakings = late_since - late, wakings_since - wakings


def _counts(server: LocalServer) -> tuple[int, int]:
    with DIRECT.open(f"{server.url}/metrics", timeout=60) as response:
        text = response.read().decode()
    name = "clipserve_event_loop_delay_seconds"
    family = next(family for family in text_string_to_metric_families(text) if family.name == name)
    counts = {sample.labels["le"]: sample.value for sample in family.samples if sample.name == f"{name}_bucket"}
    return int(counts["+Inf"] - counts[str(BLOCKED_SECONDS)]), int(counts["+Inf"])

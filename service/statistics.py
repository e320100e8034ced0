"""What a model has done since it was loaded: the figures of the statistics extension of the Open Inference Protocol.

Everything here is called from the event loop's thread alone.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from time import perf_counter


@dataclass
class Durations:
    """How often something was done, and how long that took altogether, seconds."""

    count: int = 0
    seconds: float = 0.0

    def add(self, seconds: float, count: int = 1) -> None:
        """Count `count` more that took `seconds` together."""
        self.count += count
        self.seconds += seconds


@dataclass
class Stages:
    """Durations of the stages of a batch: putting it together, running it, handing its results out."""

    input: Durations = field(default_factory=Durations)
    infer: Durations = field(default_factory=Durations)
    output: Durations = field(default_factory=Durations)


@dataclass
class ModelStatistics:
    """Counts and durations of one model.

    Attributes:
        views: Views that were run.
        executions: Batches that were run.
        last_inference: When the last batch was done, milliseconds since 1970; 0: never.
        success, fail: Requests.
        queue: Views, from their submission to the start of their batch.
        stages: Views, each with the durations of its whole batch.
        batches: Stages of the batches of each size.
    """

    views: int = 0
    executions: int = 0
    last_inference: int = 0
    success: Durations = field(default_factory=Durations)
    fail: Durations = field(default_factory=Durations)
    queue: Durations = field(default_factory=Durations)
    stages: Stages = field(default_factory=Stages)
    batches: dict[int, Stages] = field(default_factory=dict)

    def add_batch(self, size: int, queued: float, stages: tuple[float, float, float]) -> None:
        """Count a batch of `size` views that waited `queued` seconds together; `stages` are its own seconds."""
        self.views += size
        self.executions += 1
        self.last_inference = time.time_ns() // 1_000_000
        self.queue.add(queued, size)
        of_size = self.batches.setdefault(size, Stages())
        for name, seconds in zip(("input", "infer", "output"), stages, strict=True):
            getattr(self.stages, name).add(seconds * size, size)
            getattr(of_size, name).add(seconds)

    @contextmanager
    def request(self) -> Iterator[None]:
        """Count a request: the block is its work, and an exception, a cancellation too, makes it one that failed."""
        began = perf_counter()
        try:
            yield
        except BaseException:
            self.fail.add(perf_counter() - began)
            raise
        self.success.add(perf_counter() - began)

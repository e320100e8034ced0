"""A request that was accepted, and where its time goes."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from time import perf_counter
from typing import Any, Generic

from service.batching import Caller
from service.context import current_request, record_stage
from service.memory import Lease
from service.repository.served import ManifestT, ServedModel


@dataclass(frozen=True)
class Job(Generic[ManifestT]):
    """A request that was accepted and received.

    Attributes:
        model: Model to ask.
        caller: The request as the model's batcher knows it.
        memory: What it holds of the memory for pictures.
        began, received: perf_counter() when it came in, and when all of its body was there.
        turn: perf_counter() when the work on its present upload could begin: `received`, or when the upload before that
            one was answered.
    """

    model: ServedModel[ManifestT]
    caller: Caller
    memory: Lease
    began: float
    received: float
    turn: float

    def next_upload(self) -> Job[ManifestT]:
        """Return the request as it is now that the upload before is answered."""
        self.caller.expect(1)
        return replace(self, turn=perf_counter())


@dataclass(frozen=True)
class Timing:
    """Where the time of a request went, seconds; the parts add up to nearly the total."""

    receive: float
    decode: float
    queue: float
    inference: float
    total: float

    def then(self, following: Timing) -> Timing:
        """Return where the time went up to the end of the `following` upload of the same request."""
        return replace(
            following,
            decode=self.decode + following.decode,
            queue=self.queue + following.queue,
            inference=self.inference + following.inference,
        )


@dataclass
class Clock:
    """When the stages of a request ended, perf_counter().

    Attributes:
        queued: Seconds that its batches waited, one by one.
        batch_size: Views in the largest of them.
    """

    job: Job[Any]
    acquired: float = 0.0
    decoded: float = 0.0
    queued: float = 0.0
    batch_size: int | None = None

    @contextmanager
    def running(self) -> Iterator[None]:
        """Record the block, which has batches run and calls `ran`, as if it had waited first and run then."""
        try:
            yield
        except BaseException as error:
            # Whether it still waited is known to the batcher alone.
            record_stage("infer", self.decoded, perf_counter(), error)
            raise
        started = self.decoded + self.queued
        record_stage("queue.batch", self.decoded, started)
        record_stage("infer", started, perf_counter(), batch_size=self.batch_size)

    def ran(self, queued: float, batch_size: int) -> None:
        """Note how long its batches waited, one by one, and how many views the largest of them had."""
        self.queued, self.batch_size = queued, batch_size

    def timing(self) -> Timing:
        """Return the durations, the last stage ending now."""
        done = perf_counter()
        return Timing(
            receive=self.job.received - self.job.began,
            decode=self.decoded - self.acquired,
            queue=self.acquired - self.job.turn + self.queued,
            inference=done - self.decoded - self.queued,
            total=done - self.job.began,
        )


def note_stages(timing: Timing) -> None:
    """Leave the stages to whoever writes the answer's head."""
    if request := current_request():
        request.stages = asdict(timing)

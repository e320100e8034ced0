"""What the routes share: the parts of the server, and whether it takes requests."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any, Literal

from fastapi import Request

from service.api.deadline import past_deadline
from service.api.memory_files import UploadMemory
from service.batching import Caller
from service.errors import NotReadyError, OverloadedError
from service.media.pool import DecodePool
from service.memory import Lease, MemoryBudget
from service.metrics import Metrics
from service.pipeline import Pipeline
from service.rate import retry_after
from service.rendering import Rendering
from service.repository.registry import Repository
from service.repository.served import ServedModel
from service.settings import Settings

# How much of its time a request may be expected to wait. Its own work comes after that, and the estimate errs: one that
# is late has cost the work of one that would not have been.
WAITING_SHARE = 0.75

Phase = Literal["starting", "ready", "draining", "failed"]


class ServerState:
    """The running server.

    Attributes:
        phase: "starting" until everything is loaded and warm, "draining" once shutdown has begun.
        json_turn: Held by whoever parses JSON that may be large.
    """

    def __init__(
        self, settings: Settings, repository: Repository, pool: DecodePool, rendering: Rendering, metrics: Metrics
    ) -> None:
        self.settings = settings
        self.repository = repository
        self.pool = pool
        self.metrics = metrics
        self.rendering = rendering
        self.pipeline = Pipeline(pool, rendering, metrics, settings)
        self.upload_memory = UploadMemory(settings.max_upload_memory_bytes)
        self.picture_memory = MemoryBudget("pictures", settings.max_picture_memory_bytes)
        self.json_turn = asyncio.Lock()
        self.phase: Phase = "starting"
        self._deadlines: set[asyncio.Timeout] = set()
        # When the drain is over, by the loop's clock.
        self._drained_by: float | None = None

    @property
    def problem(self) -> str:
        """Why requests are not answered; empty: loaded, warm, not draining, decode workers and models alive.

        Probes show it to anybody: it names no model.
        """
        if self.phase != "ready":
            return f"the server is {self.phase}"
        if not self.pool.alive:
            return "no decode process is alive"
        return self.repository.problem and f"a model does not answer: {self.repository.problem}"

    def check_open(self) -> None:
        """Go on if requests are taken.

        Raises:
            NotReadyError: Starting or draining.
        """
        if self.phase != "ready":
            raise NotReadyError(f"the server is {self.phase}; try again in a moment", retry_after=1)

    def _check_time(self, model: ServedModel[Any]) -> None:
        """Go on if what is waiting lets a request to `model` be done in time."""
        wait = max(self.pool.expected_wait, model.batcher.expected_wait)
        if (too_long := wait - WAITING_SHARE * model.request_timeout) > 0:
            raise OverloadedError(
                f"what is waiting takes about {wait:.1f} s, and of the {model.request_timeout:g} s that a request gets "
                f"it may wait {WAITING_SHARE:.0%}: try again later",
                retry_after=retry_after(too_long),
            )

    def lease_pictures(self) -> Lease:
        """Return what the present request holds of the memory for pictures, until it is answered."""
        lease, task = Lease(self.picture_memory), asyncio.current_task()
        assert task is not None
        # Each request runs in a task of its own, which ends when its answer has been written.
        task.add_done_callback(lambda _: lease.drop())
        return lease

    @property
    def draining(self) -> bool:
        """Whether shutdown has begun."""
        return self.phase == "draining"

    @asynccontextmanager
    async def accept(self, model: ServedModel[Any]) -> AsyncIterator[Caller]:
        """Accept a request to `model`: the block gets the model's time, or less once the server drains.

        Yields what it calls the model's batcher with.

        Raises:
            NotReadyError: Starting or draining, or the time for draining was over before the block was done, or the
                model's runtime hangs or fails.
            OverloadedError: What waits already takes longer than the request may.
            DeadlineExceededError: The block took longer than it may.
        """
        self.check_open()
        model.batcher.check_running()
        self._check_time(model)
        try:
            with self.metrics.in_flight.track_inprogress(), model.in_use() as caller:
                async with asyncio.timeout(model.request_timeout) as deadline:
                    self._deadlines.add(deadline)
                    try:
                        yield caller
                    finally:
                        self._deadlines.discard(deadline)
        except TimeoutError as error:
            if not deadline.expired():
                raise
            if deadline.when() == self._drained_by:
                raise NotReadyError(
                    f"the server is stopping, and the request was not done within the {self.settings.drain_timeout:g} "
                    "s that it waits for; send it again",
                    retry_after=1,
                ) from error
            raise past_deadline(model.request_timeout) from error

    def drain(self) -> None:
        """Accept nothing from now on, and let no accepted request run for longer than `drain_timeout`."""
        self.phase = "draining"
        self._drained_by = asyncio.get_running_loop().time() + self.settings.drain_timeout
        # One that has struck may still be on its way out, and cannot be moved any more.
        for deadline in (running for running in self._deadlines if not running.expired()):
            deadline.reschedule(min(self._drained_by, deadline.when() or self._drained_by))


def server_state(request: Request) -> ServerState:
    """Return the state of the server that `request` came to."""
    state: ServerState = request.app.state.server
    return state

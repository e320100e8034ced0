"""What the routes share: the parts of the server, and whether it takes requests."""

from __future__ import annotations

import asyncio
from typing import Literal

from fastapi import Request

from service.api.deadline import Deadlines
from service.api.memory_files import UploadMemory
from service.errors import NotReadyError
from service.media.pool import DecodePool
from service.memory import Lease, MemoryBudget
from service.metrics import Metrics
from service.pipeline import Pipeline
from service.rendering import Rendering
from service.repository.registry import Repository
from service.settings import Settings

Phase = Literal["starting", "ready", "draining", "failed"]


class ServerState:
    """The running server.

    Attributes:
        phase: "starting" until everything is loaded and warm, "draining" once shutdown has begun.
        json_turn: Held by whoever parses JSON that may be large.
        deadlines: Of the accepted requests.
    """

    def __init__(
        self, settings: Settings, repository: Repository, pool: DecodePool, rendering: Rendering, metrics: Metrics
    ) -> None:
        self.settings = settings
        self.repository = repository
        self.pool = pool
        self.metrics = metrics
        self.pipeline = Pipeline(pool, rendering, metrics, settings)
        self.upload_memory = UploadMemory(settings.max_upload_memory_bytes)
        self.picture_memory = MemoryBudget("pictures", settings.max_picture_memory_bytes)
        self.json_turn = asyncio.Lock()
        self.phase: Phase = "starting"
        self.deadlines = Deadlines(settings.drain_timeout)

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

    def drain(self) -> None:
        """Accept nothing from now on, and let no accepted request run for longer than `drain_timeout`."""
        self.phase = "draining"
        self.deadlines.drain()


def server_state(request: Request) -> ServerState:
    """Return the state of the server that `request` came to."""
    state: ServerState = request.app.state.server
    return state

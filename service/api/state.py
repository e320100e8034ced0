"""What the routes share: the parts of the server, and whether it takes requests."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Literal

from fastapi import Request

from service.api.upload import UploadMemory
from service.errors import NotReadyError
from service.media.pool import DecodePool
from service.metrics import Metrics
from service.pipeline import Pipeline
from service.repository import Repository
from service.settings import Settings

Phase = Literal["starting", "ready", "draining", "failed"]


class ServerState:
    """The running server.

    Attributes:
        phase: "starting" until everything is loaded and warm, "draining" once shutdown has begun.
    """

    def __init__(self, settings: Settings, repository: Repository, pool: DecodePool, metrics: Metrics) -> None:
        self.settings = settings
        self.repository = repository
        self.pool = pool
        self.metrics = metrics
        self.pipeline = Pipeline(pool, metrics, settings)
        self.upload_memory = UploadMemory(settings.max_upload_memory_bytes)
        self.phase: Phase = "starting"

    @property
    def ready(self) -> bool:
        """Whether requests are taken: loaded, warm, not draining, decode workers and every batcher alive."""
        return self.phase == "ready" and self.pool.alive and all(model.batcher.alive for model in self.repository)

    @contextmanager
    def accept(self) -> Iterator[None]:
        """Count a request as accepted while the block runs.

        Raises:
            NotReadyError: Starting or draining.
        """
        if self.phase != "ready":
            raise NotReadyError(f"the server is {self.phase}; try again in a moment", retry_after=1)
        with self.metrics.in_flight.track_inprogress():
            yield


def server_state(request: Request) -> ServerState:
    """Return the state of the server that `request` came to."""
    state: ServerState = request.app.state.server
    return state

"""The ASGI application: builds the parts, loads them beside the running server, and ends them."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from importlib.metadata import version
from typing import Any

from fastapi import FastAPI

from service.api import classify, health, models, page, segment
from service.api.access import Access
from service.api.draining import CloseWhileDraining
from service.api.problems import install_problem_handlers
from service.api.state import ServerState
from service.api.v2.routes import include_inference_protocol
from service.errors import InternalError, ManifestError, RuntimeLoadError
from service.heartbeat import Heartbeat
from service.machine import plan_threads
from service.media.pool import DecodePool
from service.metrics import Metrics
from service.repository.registry import Repository
from service.repository.watching import watch
from service.settings import Settings

logger = logging.getLogger(__name__)


def create_app(
    settings: Settings, on_failed_start: Callable[[], None] = lambda: None, load_first: bool = False
) -> FastAPI:
    """Build the application.

    Args:
        settings: All settings.
        on_failed_start: Called when loading fails, so that whoever runs the application can stop it.
        load_first: Load before the server listens, not beside it; a failure is then one of the application's start.
    """
    metrics = Metrics()

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        state = _build_state(settings, metrics)
        app.state.server = state
        # Loading runs beside the server, so that probes get an answer (alive, not ready) while it lasts.
        loading = asyncio.create_task(_load(state, on_failed_start))
        watching = asyncio.create_task(_watch(state, loading))
        heartbeat = Heartbeat(metrics.loop_delay_seconds)
        heartbeat.start()
        if load_first and not await loading:
            raise RuntimeError("nothing to serve; the line above says why")
        yield
        heartbeat.stop()
        await _shut_down(state, loading, watching)

    app = FastAPI(
        title="clipserve",
        version=version("clipserve"),
        summary="Encoded clip or image in, labels or masks out.",
        lifespan=lifespan,
    )
    for router in (classify.router, segment.router, models.router, health.router, page.router):
        app.include_router(router)
    include_inference_protocol(app)
    install_problem_handlers(app, metrics)

    app.add_middleware(Access, metrics=metrics, log=settings.access_log)
    app.add_middleware(CloseWhileDraining)
    return app


def _build_state(settings: Settings, metrics: Metrics) -> ServerState:
    threads = plan_threads(settings.decode_workers, settings.runtime_threads, settings.processes)
    logger.info("threads: %s", threads)
    pool = DecodePool(
        workers=threads.decode_workers,
        max_waiting=settings.max_waiting_uploads,
        memory_bytes=settings.decode_memory_bytes,
        timeout=settings.decode_timeout,
    )
    return ServerState(settings, Repository(settings, metrics, threads), pool, metrics)


async def _load(state: ServerState, on_failed_start: Callable[[], None]) -> bool:
    """Load everything that the server needs; return whether that worked."""
    try:
        await asyncio.gather(state.pool.start(), state.repository.load())
    except Exception as error:
        # What an operator can mend is named; anything else is a fault of ours and needs its traceback.
        named = isinstance(error, (ManifestError, RuntimeLoadError, InternalError))
        logger.critical("cannot start: %s", error, exc_info=not named)
        state.phase = "failed"
        on_failed_start()
        return False
    state.metrics.measure_queues(lambda: _queue_depths(state))
    if state.phase == "starting":
        state.phase = "ready"
    names = ", ".join(f"{model.name}/{served.manifest.version}" for model in state.repository for served in model.alive)
    logger.info("ready: %d decode workers, models %s", state.pool.size, names)
    return True


def _queue_depths(state: ServerState) -> dict[tuple[str, ...], float]:
    depths = {"decode": state.pool.waiting} | {model.name: model.queue_depth for model in state.repository}
    return {(queue,): depth for queue, depth in depths.items()}


async def _watch(state: ServerState, loading: asyncio.Task[bool]) -> None:
    """Follow the repository folder once everything is loaded, if that is wanted."""
    if await loading and state.settings.watch_interval:
        await watch(state.repository, state.settings.watch_interval)


async def _shut_down(state: ServerState, *background: asyncio.Task[Any]) -> None:
    state.phase = "draining"
    for task in background:
        task.cancel()
    await asyncio.gather(*background, return_exceptions=True)
    await state.repository.close()
    await state.pool.close()

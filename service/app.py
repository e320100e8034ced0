"""The ASGI application: builds the parts, loads them beside the running server, and ends them."""

from __future__ import annotations

import asyncio
import gc
import logging
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from importlib.metadata import version
from typing import Any

from fastapi import FastAPI, Security
from fastapi.security import HTTPBearer
from fastapi.telemetry import TelemetryConfig
from opentelemetry.trace import TracerProvider

from service.api import classify, health, models, page, reference, segment
from service.api.access import MODEL_HEADERS, REQUEST_ID, Access
from service.api.authentication import Authentication
from service.api.cors import Cors
from service.api.description import DescribedApp
from service.api.draining import CloseWhileDraining
from service.api.head import HeadAsGet
from service.api.problems import install_problem_handlers
from service.api.route_names import RouteNames
from service.api.state import ServerState
from service.api.tracing import TRACE_RESPONSE, Tracing, is_untraced
from service.api.v2.routes import include_inference_protocol
from service.api.v2.tensors import HEADER_LENGTH
from service.errors import InternalError, ManifestError, RuntimeLoadError
from service.heartbeat import Heartbeat
from service.keyring import Keyring
from service.machine import plan_threads
from service.media.pool import DecodePool
from service.metrics import Metrics
from service.rendering import Rendering
from service.repository.registry import Repository
from service.repository.watching import watch
from service.settings import Settings
from service.tracing import NAME, open_tracing

logger = logging.getLogger(__name__)

# What pages of the sites in `cors_origins` may send and read beyond what browsers let every page.
CORS_METHODS = ("GET", "POST")
CORS_REQUEST_HEADERS = ("Authorization", "Content-Type", "traceparent", "tracestate", HEADER_LENGTH, REQUEST_ID)
CORS_ANSWER_HEADERS = (
    *(HEADER_LENGTH, "Retry-After", "Server-Timing", "WWW-Authenticate"),
    *(REQUEST_ID, TRACE_RESPONSE, *MODEL_HEADERS),
)
# Objects made and kept until a garbage collection. After Python's own 700 it comes many times a second under load, and
# stops the event loop each time for the objects of requests that wait, which are no garbage.
COLLECT_AFTER = 10_000


def create_app(
    settings: Settings, on_failed_start: Callable[[], None] = lambda: None, load_first: bool = False
) -> FastAPI:
    """Build the application.

    Args:
        settings: All settings.
        on_failed_start: Called when loading fails, so that whoever runs the application can stop it.
        load_first: Load before the server listens, not beside it.
    """
    metrics = Metrics()
    tracing = open_tracing() if settings.tracing else None

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        state = _build_state(settings, metrics)
        app.state.server = state
        # Loading runs beside the server, so that probes get an answer (alive, not ready) while it lasts.
        loading = asyncio.create_task(_load(state, on_failed_start))
        watching = asyncio.create_task(_watch(state, loading))
        heartbeat = Heartbeat(metrics.loop_delay_seconds)
        heartbeat.start()
        if load_first:
            await loading
        yield
        heartbeat.stop()
        await _shut_down(state, loading, watching)
        if tracing is not None:
            await asyncio.to_thread(tracing.shutdown)
        if not loading.cancelled() and (reason := loading.result()):
            logger.critical("cannot start: %s", reason)

    app = DescribedApp(
        title="clipserve",
        version=version("clipserve"),
        summary="Encoded clip or image in, labels or masks out.",
        lifespan=lifespan,
        # What the framework adds of itself. Behind a proxy that ends TLS, a redirect would name http:// and have the
        # client send its upload and key there.
        redirect_slashes=False,
        redoc_url=None,
        # Its page would load scripts of a third party into the origin in which keys are typed.
        docs_url=None,
        telemetry=_telemetry(tracing),
        # For /openapi.json alone; what refuses is the middleware.
        dependencies=[Security(HTTPBearer(auto_error=False))] if settings.api_keys else None,
    )
    app.state.metrics = metrics
    for router in (classify.router, segment.router, models.router, health.router, page.router, reference.router):
        app.include_router(router)
    include_inference_protocol(app)
    _add_middleware(app, settings, metrics, tracing)
    return app


def _telemetry(tracing: TracerProvider | None) -> TelemetryConfig:
    """Return what the framework itself is to measure: the span of each request, if anything."""
    return {
        "tracing": tracing is not None,
        "tracer_provider": tracing,
        "exclude": is_untraced,
        "metrics": False,
        "logs": False,
        "operation_spans": False,
        "auto_configure": False,
    }


def _add_middleware(app: FastAPI, settings: Settings, metrics: Metrics, tracing: TracerProvider | None) -> None:
    """Put around the routes what every request passes, the innermost first."""
    app.add_middleware(HeadAsGet)
    if settings.api_keys:
        app.add_middleware(Authentication, keyring=Keyring(settings.api_keys))
    install_problem_handlers(app, metrics)
    if settings.cors_origins:
        # Outside of the two above: a preflight has no key, and a script may read the text of a refusal.
        app.add_middleware(
            Cors,
            allow_origins=settings.cors_origins,
            allow_methods=CORS_METHODS,
            allow_headers=CORS_REQUEST_HEADERS,
            expose_headers=CORS_ANSWER_HEADERS,
        )
        # Once more, for what that one refuses.
        install_problem_handlers(app, metrics)
    if tracing is not None:
        app.add_middleware(Tracing, tracer=tracing.get_tracer(NAME, version(NAME)))
    app.add_middleware(Access, metrics=metrics, routes=RouteNames(app), log=settings.access_log)
    app.add_middleware(CloseWhileDraining)


def _build_state(settings: Settings, metrics: Metrics) -> ServerState:
    threads = plan_threads(settings.decode_workers, settings.runtime_threads, settings.processes)
    logger.info("threads: %s", threads)
    pool = DecodePool(
        workers=threads.decode_workers,
        max_waiting=settings.max_waiting_uploads,
        memory_bytes=settings.decode_memory_bytes,
        timeout=settings.decode_timeout,
        cpu_seconds=settings.decode_cpu_seconds,
        sandbox=settings.sandbox,
        on_lost=lambda reason: metrics.decode_workers_lost.labels(reason).inc(),
    )
    repository, rendering = Repository(settings, metrics, threads), Rendering(threads.cores)
    return ServerState(settings, repository, pool, rendering, metrics)


async def _load(state: ServerState, on_failed_start: Callable[[], None]) -> str | None:
    """Load everything that the server needs.

    Returns:
        None if that worked, or why the server cannot start if the log is to say so once more at its end; it is to be
        the last line. Empty: nothing comes after it.
    """
    parts = [asyncio.create_task(part) for part in (state.pool.start(), state.repository.load())]
    try:
        await asyncio.gather(*parts)
    except Exception as error:
        # The other part ends first, but for the thread that loads a model: nothing stops that, and what it logs.
        thread_goes_on = not parts[1].done()
        for part in parts:
            part.cancel()
        await asyncio.gather(*parts, return_exceptions=True)
        # What an operator can mend is named; anything else is a fault of ours and needs its traceback.
        named = isinstance(error, (ManifestError, RuntimeLoadError, InternalError))
        logger.critical("cannot start: %s", error, exc_info=not named)
        state.phase = "failed"
        on_failed_start()
        return str(error) if thread_goes_on else ""
    # What the imports and the loading made stays. To go through it all in every full collection would stop the event
    # loop for tens of milliseconds; models that are replaced are given back by their counts of references.
    gc.collect()
    gc.freeze()
    gc.set_threshold(COLLECT_AFTER)
    state.metrics.measure_queues(lambda: _queue_depths(state))
    state.metrics.decode_sandboxed.set_function(lambda: state.pool.unfiltered is None)
    if state.phase == "starting":
        state.phase = "ready"
    names = ", ".join(served.manifest.full_name for model in state.repository for served in model.alive)
    logger.info("ready: %d decode workers, models %s", state.pool.size, names)
    return None


def _queue_depths(state: ServerState) -> dict[tuple[str, ...], float]:
    # Two labels, since a model may be called as any of these queues is.
    depths: dict[tuple[str, ...], float] = {("decode", ""): state.pool.waiting}
    return depths | {("batch", model.name): model.queue_depth for model in state.repository}


async def _watch(state: ServerState, loading: asyncio.Task[str | None]) -> None:
    """Follow the repository folder once everything is loaded, if that is wanted."""
    if await loading is None and state.settings.watch_interval:
        await watch(state.repository, state.settings.watch_interval)


async def _shut_down(state: ServerState, *background: asyncio.Task[Any]) -> None:
    state.phase = "draining"
    for task in background:
        task.cancel()
    await asyncio.gather(*background, return_exceptions=True)
    await state.repository.close()
    await state.pool.close()
    state.pipeline.rendering.close()

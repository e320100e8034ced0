"""The running server process: uvicorn with our connections, and a drain that load balancers can follow."""

from __future__ import annotations

import asyncio
import logging
import os
import resource
import signal
import socket
from collections.abc import Callable
from math import ceil
from types import FrameType
from typing import NoReturn

import uvicorn
from fastapi import FastAPI
from uvicorn.server import HANDLED_SIGNALS

from service.api.state import ServerState
from service.app import create_app
from service.connection import Connection
from service.listening import report_exhaustion
from service.settings import Settings

logger = logging.getLogger(__name__)

# Seconds that answers get to be written once the requests are done; a client that does not read its answer ends here.
WRITING_SECONDS = 5


class Server(uvicorn.Server):
    """A uvicorn server that stops in steps.

    The first SIGTERM or SIGINT begins the drain: readiness turns 503 and new work is refused while the port stays open
    for `drain_delay` (after SIGTERM alone: a person at a terminal has no load balancer), then the port closes, accepted
    requests finish, and the process leaves with status 0. A second signal ends it at once.
    """

    def __init__(self, app: FastAPI, settings: Settings) -> None:
        attributes = {
            "metrics": app.state.metrics,
            "head_timeout": settings.head_timeout,
            "max_head_bytes": settings.max_head_bytes,
            "answer_idle_timeout": settings.answer_idle_timeout,
        }
        super().__init__(
            uvicorn.Config(
                app,
                host=settings.host,
                port=settings.port,
                http=type("Connection", (Connection,), attributes),
                ws="none",
                timeout_keep_alive=settings.keep_alive_timeout,  # type: ignore[arg-type]  # it is passed to call_later
                server_header=False,
                # Nothing here asks who the client is, or how it reached a proxy.
                proxy_headers=False,
                log_config=None,
                access_log=False,
            )
        )
        self._app = app
        self._delay = 0.0
        self._settings = settings

    def handle_exit(self, sig: int, _frame: FrameType | None) -> None:
        """Begin to stop; the signal is not raised once more afterwards, since being asked to stop is no failure."""
        self.stop(sig)
        for number in HANDLED_SIGNALS:
            signal.signal(number, signal.SIG_DFL)

    def stop(self, sig: int) -> None:
        """Begin to stop as at that signal."""
        if sig == signal.SIGTERM:
            self._delay = self._settings.drain_delay
        self.should_exit = True

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """Drain, then let uvicorn close what is left."""
        state: ServerState = self._app.state.server
        failed = state.phase == "failed"
        if state.phase == "ready":
            logger.info("draining: new work is refused; accepted requests have %g s", self._settings.drain_timeout)
            state.drain()
            await asyncio.sleep(self._delay)
        left = max(0.0, self._settings.drain_timeout - self._delay)
        self.config.timeout_graceful_shutdown = ceil(left) + WRITING_SECONDS
        await super().shutdown(sockets)
        if not failed:
            logger.info("stopped")


def run_and_leave(server: Server, status: Callable[[], int], listeners: list[socket.socket]) -> NoReturn:
    """Run a server to its end and leave the process with that status, even if a library hangs in one of its threads.

    Neither the event loop's own end nor the interpreter's would come then: both wait for threads.
    """

    async def serve() -> NoReturn:
        asyncio.get_running_loop().set_exception_handler(report_exhaustion)
        await server.serve(listeners)
        leave(status())

    _open_many_files()
    asyncio.Runner(loop_factory=server.config.get_loop_factory()).run(serve())


def leave(status: int) -> NoReturn:
    """End the process at once, when its log is written."""
    logging.shutdown()
    os._exit(status)


def _open_many_files() -> None:
    """Let this process open as many files as it may: at the usual 1024, idle connections could take all of them."""
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))


def run_server(settings: Settings, listeners: list[socket.socket]) -> NoReturn:
    """Serve on bound sockets until a signal, and leave the process; with status 1 if the models could not be loaded."""
    failed = False

    def stop() -> None:
        nonlocal failed
        failed = True
        server.should_exit = True

    server = Server(create_app(settings, on_failed_start=stop), settings)
    run_and_leave(server, lambda: int(failed), listeners)

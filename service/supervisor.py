"""Several server processes on one port: started together, replaced when one dies, drained together.

They share the sockets that the parent was given; each process listens once it is ready, so that nobody is sent to one
that is still loading. Parent and process share a control socket: the process reports on it that it is ready, the parent
asks on it for the drain, and its closing tells the process that the parent is dead. Signals would not do: systemd sends
its own to parent and processes alike, and a process could not tell that from a second one.
"""

from __future__ import annotations

import asyncio
import logging
import os
import signal
import socket
import sys
from contextlib import suppress
from typing import BinaryIO

from service.settings import Settings
from service.signals import STOP_SIGNALS, stop_signals_held

logger = logging.getLogger(__name__)

READY = b"ready"
# Seconds before a process that ended is replaced; one that cannot start must not take the machine with it.
PAUSE_SECONDS = 1.0


class Supervisor:
    """Keeps `settings.processes` server processes running until a signal.

    A process that ends is replaced, but one that ends before all were ready for the first time has failed to start, and
    with it the whole server.

    Args:
        settings: All settings; every process gets them.
        listeners: Bound sockets that the processes will listen on; they are closed when the drain begins.
    """

    def __init__(self, settings: Settings, listeners: list[socket.socket]) -> None:
        self._settings = settings
        self._listeners = listeners
        self._starting: set[asyncio.subprocess.Process] = set()
        # With the control socket of each.
        self._ready: dict[asyncio.subprocess.Process, socket.socket] = {}
        self._started = False
        self._stopping = False
        self._killed = False
        self._status = 0

    async def run(self) -> int:
        """Run until a signal; return 0, or 1 if a process failed to start or did not drain well."""
        loop = asyncio.get_running_loop()
        for number in STOP_SIGNALS:
            loop.add_signal_handler(number, self._stop, number)
        await asyncio.gather(*(self._keep_running() for _ in range(self._settings.processes)))
        return self._status

    def _stop(self, number: signal.Signals) -> None:
        """Begin the drain at the first signal, and end every process at the second."""
        self._killed = self._stopping
        self._stopping = True
        # The port is open as long as anybody holds it.
        for listener in self._listeners:
            listener.close()
        # Any of them may just have ended.
        for process in (*self._starting, *(self._ready if self._killed else ())):
            with suppress(ProcessLookupError):
                process.kill()
        for control in () if self._killed else self._ready.values():
            with suppress(ConnectionError):
                control.send(bytes([number]))

    async def _keep_running(self) -> None:
        while not self._stopping:
            try:
                problem = f"ended with status {await self._run_one()}; its last line may say why"
            except (OSError, RuntimeError) as error:
                # Out of processes, threads, descriptors or memory for now: those that run must not end by that.
                problem = f"could not be started: {error}"
            if self._stopping:
                return
            if not self._started:
                logger.critical("stopping: a server process failed to start: it %s", problem)
                self._status = 1
                self._stop(signal.SIGTERM)
                return
            logger.error("a server process %s; another is started in %g s", problem, PAUSE_SECONDS)
            await asyncio.sleep(PAUSE_SECONDS)

    async def _run_one(self) -> int:
        """Start a process and return its exit status when it has ended.

        Raises:
            OSError: It could not be created.
            RuntimeError: Nor could the thread that waits for its end (asyncio, until Python 3.12).
        """
        ours, theirs = socket.socketpair()
        descriptors = [theirs.fileno(), *(listener.fileno() for listener in self._listeners)]
        with ours:
            # The process is to know what was given and what is a default.
            given = self._settings.model_dump_json(exclude_unset=True)
            # A supervisor's signal to all processes must not end one that has not begun to handle it.
            with theirs, _memory_file(given) as settings, stop_signals_held():
                process = await asyncio.create_subprocess_exec(
                    # Without -P Python would look for all modules in the present folder first.
                    *(sys.executable, "-P", "-m", "service.supervised"),
                    *map(str, descriptors),
                    pass_fds=descriptors,
                    # Not an argument, which other users of the machine can read and which has a limit.
                    stdin=settings,
                    # Ctrl-C in a terminal is for the parent alone, which passes it on.
                    start_new_session=True,
                )
            self._starting.add(process)
            if self._stopping:
                process.kill()
            await self._wait_until_ready(process, ours)
            status = await process.wait()
        if process in self._ready and self._stopping and not self._killed and status:
            logger.error("a server process ended with status %d while it drained", status)
            self._status = 1
        self._starting.discard(process)
        self._ready.pop(process, None)
        return status

    async def _wait_until_ready(self, process: asyncio.subprocess.Process, control: socket.socket) -> None:
        """Wait until the process reports that it listens; returns as well when it ends before."""
        control.setblocking(False)
        reported = await asyncio.get_running_loop().sock_recv(control, len(READY))
        if reported == READY and not self._stopping:
            self._starting.discard(process)
            self._ready[process] = control
            if not self._started and len(self._ready) == self._settings.processes:
                self._started = True
                logger.info("all %d server processes take requests", len(self._ready))


def supervise(settings: Settings, listeners: list[socket.socket]) -> int:
    """Run `settings.processes` server processes on bound sockets until a signal; return the exit status."""
    return asyncio.run(Supervisor(settings, listeners).run())


def _memory_file(text: str) -> BinaryIO:
    file = os.fdopen(os.memfd_create("settings", os.MFD_CLOEXEC), "w+b")
    file.write(text.encode())
    file.seek(0)
    return file

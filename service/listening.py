"""The sockets on which the server listens."""

from __future__ import annotations

import asyncio
import logging
import os
import resource
import socket
from contextlib import ExitStack
from errno import EADDRINUSE, EMFILE, ENFILE, ENOBUFS, ENOMEM
from typing import Any

logger = logging.getLogger(__name__)

# After these the event loop accepts nothing for a second.
EXHAUSTED = (EMFILE, ENFILE, ENOBUFS, ENOMEM)
# Of all file descriptors, what connections leave to the work on their requests: uploads, pixels, decode processes.
KEPT_SHARE = 1 / 8


class ListenError(Exception):
    """The server cannot listen where it is to; the message says where and why.

    Attributes:
        taken: Whether another program listens there.
    """

    def __init__(self, host: str, port: int, reason: Exception) -> None:
        self.taken = isinstance(reason, OSError) and reason.errno == EADDRINUSE
        cure = "; stop who listens there, or choose another with --port (0: any that is free)" if self.taken else ""
        super().__init__(f"cannot listen on {host} port {port}: {reason}{cure}")


class Listener(socket.socket):
    """A socket from which an event loop accepts connections while there are file descriptors for them.

    Connections that come meanwhile wait in the kernel, or for another process that shares the socket.
    """

    _exhausted = False

    def accept(self) -> tuple[socket.socket, Any]:
        """Accept a connection.

        Raises:
            BlockingIOError: None waits, or the call before has failed for want of something: the event loop pauses
                then, but repeats the call first, up to as many times as connections may wait.
            OSError: There are too few file descriptors, or something else is wanting.
        """
        if self._exhausted:
            self._exhausted = False
            raise BlockingIOError
        try:
            self._check_descriptors()
            return super().accept()
        except OSError as error:
            self._exhausted = error.errno in EXHAUSTED
            raise

    def _check_descriptors(self) -> None:
        limit, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
        # A new one is always the lowest that is free.
        os.close(lowest := os.dup(self.fileno()))
        if lowest >= (1 - KEPT_SHARE) * limit:
            raise OSError(EMFILE, f"of {limit} file descriptors {lowest} are in use, and the others kept for requests")


def report_exhaustion(loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
    """Log in one line that connections are not accepted for a second; an exception handler of event loops."""
    error = context.get("exception")
    if "socket" in context and isinstance(error, OSError) and error.errno in EXHAUSTED:
        logger.warning("no connection is accepted for a second: %s", error)
    else:
        loop.default_exception_handler(context)


def bind(host: str, port: int) -> list[socket.socket]:
    """Return a socket for each address of `host`, all bound to one port; none of them listens yet.

    Raises:
        ListenError: The host has no address, or one of them cannot be bound.
    """
    _open_standard_streams()
    listeners: list[socket.socket] = []
    with ExitStack() as opened:
        try:
            found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
            # A name has an address twice where a file of hosts lists it twice.
            for family, address in dict.fromkeys((family, address) for family, *_, address in found):
                # The protocol by its name: asyncio sends at once (TCP_NODELAY) only on sockets that say they are TCP's.
                listener = opened.enter_context(Listener(family, socket.SOCK_STREAM, socket.IPPROTO_TCP))
                listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
                # Port 0 is any that is free, but the same for all.
                listener.bind((address[0], listeners[0].getsockname()[1] if listeners else port, *address[2:]))
                listeners.append(listener)
        except (OSError, UnicodeError) as error:
            # The second is of names that no resolver could be asked for.
            raise ListenError(host, port, error) from error
        opened.pop_all()
    return listeners


def _open_standard_streams() -> None:
    """Open those that are closed: a socket that had the number of one would be replaced by it in child processes."""
    for stream in range(3):
        try:
            os.fstat(stream)
        except OSError:
            # The lowest number that is free.
            os.set_inheritable(os.open(os.devnull, os.O_RDWR), True)

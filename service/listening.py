"""The sockets on which the server listens."""

from __future__ import annotations

import socket
from contextlib import ExitStack
from errno import EADDRINUSE


class ListenError(Exception):
    """The server cannot listen where it is to; the message says where and why.

    Attributes:
        taken: Whether another program listens there.
    """

    def __init__(self, host: str, port: int, reason: Exception) -> None:
        self.taken = isinstance(reason, OSError) and reason.errno == EADDRINUSE
        cure = "; stop who listens there, or choose another with --port (0: any that is free)" if self.taken else ""
        super().__init__(f"cannot listen on {host} port {port}: {reason}{cure}")


def bind(host: str, port: int) -> list[socket.socket]:
    """Return a socket for each address of `host`, all bound to one port; none of them listens yet.

    Raises:
        ListenError: The host has no address, or one of them cannot be bound.
    """
    listeners: list[socket.socket] = []
    with ExitStack() as opened:
        try:
            found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
            # A name has an address twice where a file of hosts lists it twice.
            for family, address in dict.fromkeys((family, address) for family, *_, address in found):
                # The protocol by its name: asyncio sends at once (TCP_NODELAY) only on sockets that say they are TCP's.
                listener = opened.enter_context(socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP))
                listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
                # Port 0 is any that is free, but the same for all.
                listener.bind((address[0], listeners[0].getsockname()[1] if listeners else port, *address[2:]))
                listeners.append(listener)
        except (OSError, UnicodeError) as error:
            # The second is of names that no resolver could be asked for.
            raise ListenError(host, port, error) from error
        opened.pop_all()
    return listeners

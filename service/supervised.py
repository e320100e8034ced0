"""One of several server processes; `service.supervisor` starts it."""

from __future__ import annotations

import asyncio
import signal
import socket
import sys
from contextlib import suppress
from types import FrameType

from service.app import create_app
from service.listening import Listener
from service.logs import configure_logging
from service.server import Server, leave, run_and_leave
from service.settings import Settings
from service.signals import take_stop_signals
from service.supervisor import READY


class SupervisedServer(Server):
    """A server that tells its parent when it listens, and drains when the parent asks for it or is gone.

    Args:
        settings: All settings.
        control: Socket to the parent.
    """

    def __init__(self, settings: Settings, control: socket.socket) -> None:
        # Nobody is connected yet who would have to be told.
        super().__init__(create_app(settings, on_failed_start=lambda: leave(1), load_first=True), settings)
        self._control = control

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Load, listen, report."""
        # They have been held since the parent started this process.
        take_stop_signals()
        await super().startup(sockets)
        asyncio.get_running_loop().add_reader(self._control, self._obey)
        # A parent that is gone already is noticed by the reader.
        with suppress(ConnectionError):
            self._control.send(READY)

    def handle_exit(self, sig: int, _frame: FrameType | None) -> None:
        """Begin to stop, however often a signal comes: the parent is the one who ends this process at once."""
        self.stop(sig)

    def _obey(self) -> None:
        """Stop as at the signal that the parent names; it names none when it is gone."""
        asyncio.get_running_loop().remove_reader(self._control)
        named = b""
        with suppress(ConnectionError):
            named = self._control.recv(1)
        self.stop(named[0] if named else signal.SIGTERM)


def main() -> None:
    """Serve on the bound sockets given by file descriptor number, with the settings given as JSON on standard input."""
    control, *listeners = map(int, sys.argv[1:])
    settings = Settings.model_validate_json(sys.stdin.read())
    configure_logging(settings.log_format)
    server = SupervisedServer(settings, socket.socket(fileno=control))
    run_and_leave(server, lambda: 0, [Listener(fileno=listener) for listener in listeners])


if __name__ == "__main__":
    main()

"""The signals that ask a server to stop: before it runs, and in the processes that it starts."""

from __future__ import annotations

import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager

STOP_SIGNALS = (signal.SIGINT, signal.SIGTERM)


def on_early_stop(leave: Callable[[], object]) -> None:
    """Have a signal to stop call that, until whoever runs the server handles these signals."""
    for number in STOP_SIGNALS:
        signal.signal(number, lambda *_: leave())


@contextmanager
def stop_signals_held() -> Iterator[None]:
    """Start processes in the block: signals to stop wait in them, from their first instruction on, and in this thread.

    A block that waits shares that with whatever runs meanwhile. None within another: its end lets the signals through.
    """
    signal.pthread_sigmask(signal.SIG_BLOCK, STOP_SIGNALS)
    try:
        yield
    finally:
        take_stop_signals()


def take_stop_signals() -> None:
    """Have signals to stop delivered to this thread, also those that wait."""
    signal.pthread_sigmask(signal.SIG_UNBLOCK, STOP_SIGNALS)

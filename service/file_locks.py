"""Locks of files, by which processes take turns."""

from __future__ import annotations

import fcntl
import logging

logger = logging.getLogger(__name__)


def take_turn(descriptor: int, waiting_for: str) -> None:
    """Lock an open file, and tell the log what is waited for: that may be for minutes, or a process that hangs.

    Raises:
        OSError: Its file system has no locks.
    """
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        logger.info("waiting for %s", waiting_for)
        fcntl.flock(descriptor, fcntl.LOCK_EX)

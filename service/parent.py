"""The process that started this one."""

from __future__ import annotations

import ctypes
import os
import signal
import sys

_PR_SET_PDEATHSIG = 1  # <sys/prctl.h>


def end_with_parent(parent: int) -> None:
    """Have the kernel kill this process when the thread that started it is gone.

    Args:
        parent: Number of the process that started this one. If it is gone already, this one ends with status 1.
    """
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    # Of an end before that call nobody is told, but whoever adopted this process is its parent now.
    if os.getppid() != parent:
        sys.exit(f"process {parent}, which is to have started this one, is gone")

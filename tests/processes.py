"""What /proc tells of processes."""

import os
from pathlib import Path


def children(pid: int | str = "self") -> set[int]:
    """Return the children of a process, by default of this one."""
    files = Path(f"/proc/{pid}/task").glob("*/children")
    return {int(child) for file in files for child in file.read_text().split()}


def decode_workers(pid: int | str = "self") -> set[int]:
    """Return which children of a process are decode workers."""
    return {child for child in children(pid) if "service.media.worker" in _read(child, "cmdline")}


def is_running(pid: int) -> bool:
    """Tell whether a process has not ended; one that has may be left to be collected by whoever adopted it."""
    state = _fields(pid)[:1]
    return state not in ([], ["Z"])


def cpu_seconds(pid: int) -> float:
    """Return the processor time that a process has used."""
    return sum(map(int, _fields(pid)[11:13])) / os.sysconf("SC_CLK_TCK")


def _fields(pid: int) -> list[str]:
    """Return what is known of a process from its state on (proc_pid_stat(5)); nothing of one that is gone."""
    return _read(pid, "stat").rpartition(") ")[2].split()


def _read(pid: int, name: str) -> str:
    """Return a file of a process; nothing if it has ended and was collected."""
    try:
        return Path(f"/proc/{pid}/{name}").read_text()
    except (FileNotFoundError, ProcessLookupError):
        return ""

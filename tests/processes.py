"""What /proc tells of processes."""

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
    state = _read(pid, "stat").rpartition(") ")[2]
    return bool(state) and not state.startswith("Z")


def _read(pid: int, name: str) -> str:
    """Return a file of a process; nothing if it has ended and was collected."""
    try:
        return Path(f"/proc/{pid}/{name}").read_text()
    except (FileNotFoundError, ProcessLookupError):
        return ""

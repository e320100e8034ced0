"""Resident memory of another process, by the kernel's own account (proc(5), /proc/PID/status)."""

from __future__ import annotations

from pathlib import Path


def resident_memory(pid: int) -> int:
    """Return the bytes that a process has in memory now."""
    return _status_bytes(pid, "VmRSS")


def peak_memory(pid: int) -> int:
    """Return the most bytes that a process has had in memory, since it began or since `forget_peak`."""
    return _status_bytes(pid, "VmHWM")


def forget_peak(pid: int) -> None:
    """Let `peak_memory` begin anew."""
    Path(f"/proc/{pid}/clear_refs").write_text("5")


def _status_bytes(pid: int, name: str) -> int:
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith(f"{name}:"))

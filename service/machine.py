"""The machine underneath: its CPU, how much of it this process may use, and how that is shared out."""

from __future__ import annotations

import os
import platform
from dataclasses import dataclass
from math import ceil
from pathlib import Path, PurePosixPath

_CPU_INFO = Path("/proc/cpuinfo")
_GROUPS = Path("/sys/fs/cgroup")
_OWN_GROUP = Path("/proc/self/cgroup")


def available_cores() -> int:
    """Return the number of cores that this process may use: those it may run on, or fewer if its CPU time is limited.

    A container's limit on CPU time does not take cores away; more threads than it pays for would only be throttled.
    """
    cores = len(os.sched_getaffinity(0))
    quota = cpu_quota()
    return cores if quota is None else max(1, min(cores, ceil(quota)))


def cpu_quota() -> float | None:
    """Return how many cores' time the control groups grant (cgroup v2, cpu.max); None without a limit."""
    return min((quota for group in _control_groups() if (quota := _quota(group)) is not None), default=None)


def _control_groups() -> list[Path]:
    """Return the folders of this process's control group and of all above it, each of which may have a limit.

    A container often sees its own group as the root; a service of systemd, or a container with the host's view, does
    not.
    """
    try:
        memberships = _OWN_GROUP.read_text().splitlines()
    except OSError:
        memberships = []
    own = next((line.removeprefix("0::") for line in memberships if line.startswith("0::")), "/")
    path = PurePosixPath(own.lstrip("/"))
    return [_GROUPS / group for group in (path, *path.parents)]


def _quota(group: Path) -> float | None:
    try:
        granted, period = (group / "cpu.max").read_text().split()
        return int(granted) / int(period)
    except (OSError, ValueError):
        # "max" in place of a number is no limit.
        return None


def cpu_model() -> str:
    """Return the name of the CPU; those of ARM have none, and the kernel tells them apart by numbers."""
    name = _cpu_info("model name") or platform.machine()
    implementer, part = _cpu_info("CPU implementer"), _cpu_info("CPU part")
    return f"{name} (implementer {implementer}, part {part})" if part else name


def cpu_flags() -> frozenset[str]:
    """Return the instruction sets of the CPU, by the kernel's names."""
    return frozenset((_cpu_info("flags") or _cpu_info("Features")).split())


def _cpu_info(key: str) -> str:
    """Return what the kernel says of the first core under `key`; empty: nothing."""
    try:
        lines = _CPU_INFO.read_text().splitlines()
    except OSError:
        return ""
    return next((line.partition(":")[2].strip() for line in lines if line.partition(":")[0].strip() == key), "")


@dataclass(frozen=True)
class ThreadPlan:
    """Who gets how many threads.

    Attributes:
        cores: What there is to share.
        decode_workers: Decode processes, each of one thread.
        runtime_threads: Threads of one run of a network.
    """

    cores: int
    decode_workers: int
    runtime_threads: int

    @property
    def runs_at_once(self) -> int:
        """Batches that run at the same time on a device, over all models: as many as the cores hold the threads of."""
        return max(1, self.cores // self.runtime_threads)

    def __str__(self) -> str:
        return f"cores {self.cores}, decode processes {self.decode_workers}, threads of a run {self.runtime_threads}"


def plan_threads(decode_workers: int, runtime_threads: int, processes: int = 1) -> ThreadPlan:
    """Share out the cores of one of several server processes; 0 leaves a number to the plan.

    Decoding and the network each may take every core: which of them is the bottleneck depends on the model and the
    clips, and a fixed share would leave cores idle. Neither has threads that spin while they wait, so whoever has work
    gets the core.
    """
    cores = max(1, available_cores() // processes)
    return ThreadPlan(cores, decode_workers or cores, runtime_threads or cores)

"""A server with all its processes: started together, looked at together, ended together."""

from __future__ import annotations

import os
import signal
import subprocess
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

from demo.local_server import becomes_ready

STOP_SECONDS = 10
TICKS = os.sysconf("SC_CLK_TCK")


class ProcessGroup:
    """The processes that descend from one that was started, unless they leave its group.

    Attributes:
        process: The one that was started.
    """

    def __init__(self, process: subprocess.Popen[bytes]) -> None:
        self.process = process

    def memory(self) -> int:
        """Return the bytes that all hold, each shared page counted once: their proportional set sizes (proc(5))."""
        return sum(_proportional_size(pid) for pid in self._stats())

    def processor_seconds(self) -> float:
        """Return the processor time that the running ones have used, seconds."""
        # utime and stime, the 14th and 15th field of proc_pid_stat(5); these begin at the third.
        return sum(int(fields[11]) + int(fields[12]) for fields in self._stats().values()) / TICKS

    def is_there(self) -> bool:
        """Tell whether any of them still runs."""
        return bool(self._stats())

    def stop(self) -> None:
        """Ask all to end, and end by force what has not in `STOP_SECONDS`."""
        self._signal(signal.SIGTERM)
        deadline = time.monotonic() + STOP_SECONDS
        while self.is_there() and time.monotonic() < deadline:
            self.process.poll()
            time.sleep(0.05)
        self._signal(signal.SIGKILL)
        self.process.wait()

    def _signal(self, number: signal.Signals) -> None:
        if self.is_there():
            os.killpg(self.process.pid, number)

    def _stats(self) -> dict[int, list[str]]:
        """Return what is known of each process from its state on, by number; without those that have ended."""
        stats = {}
        for folder in Path("/proc").glob("[0-9]*"):
            try:
                # The name before may hold anything.
                fields = (folder / "stat").read_text().rpartition(") ")[2].split()
            except OSError:
                continue
            if int(fields[2]) == self.process.pid and fields[0] != "Z":
                stats[int(folder.name)] = fields
        return stats


@contextmanager
def started(command: Sequence[str], environment: Mapping[str, str], ready_url: str) -> Iterator[ProcessGroup]:
    """Start a server in a group of its own, yield it when the address answers with 200, end it afterwards.

    Raises:
        SystemExit: It does not become ready; what it wrote last is in the message.
    """
    with tempfile.TemporaryFile() as log:
        process = subprocess.Popen(command, env=environment, stdout=log, stderr=log, start_new_session=True)  # noqa: S603
        group = ProcessGroup(process)
        try:
            if not becomes_ready(process, ready_url):
                log.seek(0)
                raise SystemExit(f"{' '.join(command)} did not become ready: {log.read()[-3000:].decode()}")
            yield group
        finally:
            group.stop()


def _proportional_size(pid: int) -> int:
    try:
        lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
    except OSError:
        # It has just ended.
        return 0
    return sum(int(line.split()[1]) * 1024 for line in lines if line.startswith("Pss:"))

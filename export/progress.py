"""What a person sees of a long step, and the other processes that do some of them."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from time import monotonic
from typing import Self, TypeVar

from tqdm import tqdm

from export.errors import ExportError

Report = Callable[[str], None]

T = TypeVar("T")
# What a child process prints when one of its parts is done.
PART_DONE = "."
# How long a log goes without a line about a step of many parts.
LINE_SECONDS = 30.0


class _Count:
    """Shows how many parts of a step are done: by a bar on standard error if that is a terminal, else by lines.

    Args:
        total: Number of all; 0: show nothing.
        unit: What a part is called.
    """

    def __init__(self, total: int, unit: str) -> None:
        self._bar = tqdm(total=total, unit=unit, leave=False, disable=None if total else True)
        self._has_lines = bool(total and self._bar.disable)
        self._total, self._unit, self._done = total, unit, 0
        self._last_line = monotonic()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._bar.close()

    def add(self) -> None:
        """Count a part that is done."""
        self._done += 1
        self._bar.update()
        if self._has_lines and self._done < self._total and monotonic() - self._last_line >= LINE_SECONDS:
            self._last_line = monotonic()
            print(f"  {self._done} of {self._total} {self._unit}s", file=sys.stderr, flush=True)


def tracked(parts: Sequence[T], unit: str) -> Iterator[T]:
    """Yield the parts of a step, and show how many are done: see `_Count`."""
    with _Count(len(parts), unit) as count:
        for part in parts:
            yield part
            count.add()


def run_module(
    arguments: Sequence[str], parts: int = 0, unit: str = "", content: str = "", relief: str = "have more of it free"
) -> str:
    """Run `python -m` with the arguments in another process, show its parts, and return what it printed.

    Args:
        arguments: Name of the module, and what it is given.
        parts: How often it will print PART_DONE on a line of its own; these lines are left out. Without any
            nothing is shown.
        unit: What a part is called.
        content: Its standard input.
        relief: What its caller can do if the memory is too little for it.

    Raises:
        ExportError: It failed; with the end of what it wrote to standard error.
    """
    # ONNX Runtime's Linux wheels report to their maker unless they are told not to. Temporary files of an export lie
    # where its own do.
    environment = {**os.environ, "ORT_DISABLE_TELEMETRY": "1", "TMPDIR": tempfile.gettempdir()}
    with tempfile.TemporaryFile("w+") as errors:
        process = subprocess.Popen(  # noqa: S603
            # Without -P Python would look for all modules in the present folder first.
            [sys.executable, "-P", "-m", *arguments],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=errors,
            text=True,
            env=environment,
        )
        try:
            printed = _printed(process, content, parts, unit)
        except BaseException:
            process.kill()
            raise
        finally:
            process.wait()
        if process.returncode:
            errors.seek(0)
            raise ExportError(errors.read().strip()[-2000:] or _end_without_a_word(process.returncode, relief))
    return printed


def _end_without_a_word(status: int, relief: str) -> str:
    killed = f"; the kernel kills what takes too much memory: {relief}"
    return f"its process ended with status {status}{killed if status == -signal.SIGKILL else ''}"


def _printed(process: subprocess.Popen[str], content: str, parts: int, unit: str) -> str:
    assert process.stdin is not None
    assert process.stdout is not None
    with process.stdin, process.stdout, _Count(parts, unit) as count:
        # One that has failed already reads nothing.
        with suppress(BrokenPipeError):
            process.stdin.write(content)
            process.stdin.close()
        printed = []
        for line in process.stdout:
            if line.rstrip() == PART_DONE:
                count.add()
            else:
                printed.append(line)
    return "".join(printed)

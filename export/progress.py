"""What a person sees of a long step, and the other processes that do some of them."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from typing import TypeVar

from tqdm import tqdm

from export.errors import ExportError

Report = Callable[[str], None]

T = TypeVar("T")
# What a child process prints when one of its parts is done.
PART_DONE = "."


def tracked(parts: Sequence[T], unit: str) -> Iterator[T]:
    """Yield the parts of a step, with a bar on standard error if that is a terminal."""
    yield from tqdm(parts, unit=unit, leave=False, disable=None)


def run_module(arguments: Sequence[str], parts: int = 0, unit: str = "", content: str = "") -> str:
    """Run `python -m` with the arguments in another process, with a bar over its parts, and return what it printed.

    Args:
        arguments: Name of the module, and what it is given.
        parts: How often it will print PART_DONE on a line of its own; these lines are left out. Without any there is no
            bar.
        unit: What a part is called.
        content: Its standard input; short.

    Raises:
        ExportError: It failed; with the end of what it wrote to standard error.
    """
    # ONNX Runtime's Linux wheels report to their maker unless they are told not to.
    environment = {**os.environ, "ORT_DISABLE_TELEMETRY": "1"}
    with tempfile.TemporaryFile("w+") as errors:
        process = subprocess.Popen(  # noqa: S603
            [sys.executable, "-m", *arguments],
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
            # One that the kernel killed, for its memory perhaps, left no word.
            reason = errors.read().strip()[-2000:] or f"its process ended with status {process.returncode}"
            raise ExportError(reason)
    return printed


def _printed(process: subprocess.Popen[str], content: str, parts: int, unit: str) -> str:
    assert process.stdin is not None
    assert process.stdout is not None
    hidden = None if parts else True
    with process.stdin, process.stdout, tqdm(total=parts, unit=unit, leave=False, disable=hidden) as bar:
        # One that has failed already reads nothing.
        with suppress(BrokenPipeError):
            process.stdin.write(content)
            process.stdin.close()
        printed = []
        for line in process.stdout:
            if line.rstrip() == PART_DONE:
                bar.update()
            else:
                printed.append(line)
    return "".join(printed)

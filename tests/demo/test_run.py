"""`python -m demo.run`, which is `make demo`: what it says of its server."""

import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import httpx
import pytest

from demo.local_server import free_port

ROOT = Path(__file__).parents[2]


@contextmanager
def demo(*options: str) -> Iterator[subprocess.Popen[str]]:
    """Run the demo, and end it and its server if the block has not seen to that."""
    command = [sys.executable, "-m", "demo.run", "--port", str(free_port()), *options]
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True, cwd=ROOT, start_new_session=True
    ) as process:
        try:
            yield process
        finally:
            with suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)


def test_server_that_stops_is_offered_to_nobody() -> None:
    with demo() as process:
        printed, _ = process.communicate(timeout=120)
    assert process.returncode == 0, printed
    assert "http://" not in printed
    assert printed.endswith("`make demo KEEP=1` keeps it up, with a page to try it by hand\n")


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP])
def test_server_ends_with_the_demo(number: signal.Signals) -> None:
    with demo("--keep") as process:
        assert process.stdout is not None
        text = ""
        while "serving until" not in text:
            text += process.stdout.readline()
        process.send_signal(number)
        process.communicate(timeout=60)
        page = re.search(r"^page: (http\S+) ", text, re.MULTILINE)
        assert page
        with pytest.raises(httpx.ConnectError):
            httpx.get(page[1])
    assert process.returncode == 128 + number


def test_server_that_is_kept_tells_its_addresses() -> None:
    with demo("--keep") as process:
        assert process.stdout is not None
        shown = []
        for line in process.stdout:
            shown.append(line)
            if line.startswith("serving until"):
                break
        text = "".join(shown)
        page = re.search(r"^page: (http\S+) ", text, re.MULTILINE)
        mask = re.search(r"@(demo/media/\S+) '(http\S+)' -o overlay.jpg$", text, re.MULTILINE)
        assert page
        assert mask
        assert httpx.get(page[1]).status_code == 200
        answer = httpx.post(mask[2], content=(ROOT / mask[1]).read_bytes(), timeout=60)
        process.send_signal(signal.SIGINT)
        process.communicate(timeout=60)
    assert answer.content.startswith(b"\xff\xd8"), "no JPEG"
    assert process.returncode == 0

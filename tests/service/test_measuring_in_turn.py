"""Of servers that share a cache one measures runtimes at a time, and those that wait for it say so."""

import fcntl
from pathlib import Path

import pytest

from tests.classifier import write_classifier
from tests.server import starting, wait_until_ready


@pytest.mark.parametrize("is_taken", [True, False])
def test_server_says_that_it_waits_for_another_one(tmp_path: Path, is_taken: bool) -> None:
    write_classifier(tmp_path / "models", "m", 1)
    lock = tmp_path / "cache/runtimes/lock"
    lock.parent.mkdir(parents=True)
    waits = f"waiting for another process that measures runtimes ({lock} is locked)"
    with lock.open("w") as other:
        if is_taken:
            fcntl.flock(other, fcntl.LOCK_EX)
        settings = {"repository": tmp_path / "models", "runtime": "auto", "cache": tmp_path / "cache"}
        with starting(tmp_path, **settings, decode_workers=1) as server:
            if is_taken:
                server.wait_for(lambda: waits in server.log.read_text())
                assert "measured now" not in server.log.read_text()
                fcntl.flock(other, fcntl.LOCK_UN)
            wait_until_ready(server)
            assert "measured now" in server.log.read_text()
            assert (waits in server.log.read_text()) == is_taken

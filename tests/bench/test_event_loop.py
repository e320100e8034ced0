"""Delays of a server's event loop beside those of an idle process."""

import time
from urllib.parse import urlsplit

from bench.event_loop import watched_event_loop
from demo.local_server import LocalServer
from service.heartbeat import SECONDS
from tests.server import RunningServer


def test_both_are_counted_in_the_same_time(server: RunningServer) -> None:
    port = urlsplit(server.url).port
    assert port is not None
    with watched_event_loop(LocalServer(port, server.process.pid)) as delays:
        began = time.perf_counter()
        time.sleep(2)
        most = (time.perf_counter() - began) / SECONDS
    # Less on a busy machine; asking for the figures takes a little as well.
    assert most / 4 < delays.wakings <= most + 3
    assert most / 4 < delays.idle_wakings <= most + 3
    assert f"of {delays.wakings} wakings over 20 ms late" in str(delays)

"""What one server does in its turn, and what all turns come to."""

from __future__ import annotations

import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass
from statistics import median

from bench.turns import seconds_of
from loadtest.peers.contestants import Contestant, Running, answered_frames
from loadtest.peers.upload import UploadCaller
from service.load import Load, closed_loop

CALLERS = 8
WARM_SECONDS, SAMPLE_SECONDS = 2, 0.25
# Clients that leave: so many that their work takes a second or so where it is done all the same.
LEAVING, ALONE = 32, 5


@dataclass(frozen=True)
class Expected:
    """What every server has to say of the clip: its best class, and the frames that were looked at."""

    label: str
    frames: list[int]


@dataclass(frozen=True)
class Turn:
    """What a turn came to.

    Attributes:
        rate: Clips a second, of `CALLERS` callers.
        processor_seconds: Of all its processes, a clip, under these callers.
        latency: Of a single caller, seconds; the median.
        memory: The most bytes that all its processes held at once, as far as was seen under these callers.
        waited: Seconds by which an answer took longer because `LEAVING` clients had just left.
    """

    rate: float
    processor_seconds: float
    latency: float
    memory: int
    waited: float


def ask(contestant: Contestant, clip: bytes) -> Expected:
    """Start a server and return what it says of the clip."""
    with contestant.running(clip) as server:
        return _answer(server)


def take_turn(contestant: Contestant, clip: bytes, expected: Expected, seconds: float) -> Turn:
    """Start a server, put load on it, stop it.

    Raises:
        SystemExit: It does not start, refuses a request, says something else than is expected, or nothing in the time.
    """
    with contestant.running(clip) as server:
        if (answer := _answer(server)) != expected:
            raise SystemExit(f"{contestant.name} answers {answer}, not {expected}")
        memory = _memory_under_load(server)
        before = server.group.processor_seconds()
        load, answers = _load(server, CALLERS, seconds)
        used = server.group.processor_seconds() - before
        memory = max(memory, server.group.memory())
        return Turn(
            rate=load.rate,
            processor_seconds=used / answers,
            latency=_load(server, 1, seconds)[0].percentile(50),
            memory=memory,
            waited=_wait_for_those_who_left(server),
        )


def _answer(server: Running) -> Expected:
    answer = server.upload.answer(server.port)
    return Expected(answer["predictions"][0]["label"], answered_frames(answer))


def _load(server: Running, callers: int, seconds: float) -> tuple[Load, int]:
    """Return what a closed loop came to, and how many answers there were before, in and after the time that counts."""
    called: list[UploadCaller] = []

    def new_caller() -> UploadCaller:
        caller = UploadCaller(server.upload, server.port)
        called.append(caller)
        return caller

    load = closed_loop(new_caller, callers, seconds)
    if not load.statuses:
        raise SystemExit(f"no answer came in {seconds:g} s: give it more --seconds")
    if set(load.statuses) != {200}:
        raise SystemExit(f"the server answered {dict(load.statuses)}")
    return load, sum(caller.answers for caller in called)


def _memory_under_load(server: Running) -> int:
    """Return the most memory that is seen while the load warms the server up; what is measured is not disturbed."""
    with ThreadPoolExecutor(1) as thread:
        warming = thread.submit(_load, server, CALLERS, WARM_SECONDS)
        most = 0
        while not warming.done():
            most = max(most, server.group.memory())
            time.sleep(SAMPLE_SECONDS)
        warming.result()
    return most


def _wait_for_those_who_left(server: Running) -> float:
    alone = median(seconds_of(lambda: server.upload.answer(server.port)) for _ in range(ALONE))
    with ExitStack() as leaving:
        for _ in range(LEAVING):
            leaving.enter_context(server.upload.leave(server.port))
    return max(0.0, seconds_of(lambda: server.upload.answer(server.port)) - alone)

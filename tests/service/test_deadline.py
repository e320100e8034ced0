"""Deadlines of requests: whose time is over is told so, and by whose limit."""

import asyncio

import pytest

from service.api.deadline import Deadlines, deadline
from service.errors import DeadlineExceededError, NotReadyError


async def _too_long(seconds: float | None) -> None:
    async with deadline(seconds):
        await asyncio.sleep(60)


def test_block_over_its_time_is_refused() -> None:
    with pytest.raises(DeadlineExceededError, match=r"0\.01 s"):
        asyncio.run(_too_long(0.01))


@pytest.mark.parametrize("seconds", [None, 60])
def test_time_limit_of_something_in_the_block_is_not_the_deadline(seconds: float | None) -> None:
    async def scenario() -> None:
        async with deadline(seconds), asyncio.timeout(0.01):
            await asyncio.sleep(60)

    with pytest.raises(TimeoutError):
        asyncio.run(scenario())


async def _drained(drain_timeout: float, own: float, clients: float | None) -> None:
    deadlines = Deadlines(drain_timeout)
    async with deadlines.within(own), deadline(clients):
        deadlines.drain()
        await asyncio.sleep(60)


def test_drain_ends_what_runs_and_says_so() -> None:
    with pytest.raises(NotReadyError, match="is stopping"):
        asyncio.run(_drained(0.01, own=60, clients=None))


def test_drain_leaves_an_earlier_deadline() -> None:
    with pytest.raises(DeadlineExceededError, match=r"0\.01 s"):
        asyncio.run(_drained(60, own=0.01, clients=None))


def test_drain_leaves_the_deadline_that_a_client_set() -> None:
    with pytest.raises(DeadlineExceededError, match=r"0\.01 s"):
        asyncio.run(_drained(60, own=120, clients=0.01))

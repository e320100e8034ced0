"""Turns that customers share, on a clock that the test moves."""

import asyncio
from collections.abc import Iterator

import pytest

from service.fairness import FairGate


class Clock:
    """Stands still until it is moved."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Iterator[Clock]:
    clock = Clock()
    monkeypatch.setattr("service.fairness.perf_counter", clock)
    return clock


async def take_turns(gate: FairGate, clock: Clock, name: str, seconds: float, turns: int, log: list[str]) -> None:
    for _ in range(turns):
        async with gate.turn(name):
            log.append(name)
            await asyncio.sleep(0)
            clock.now += seconds


def test_customers_get_the_same_time_not_the_same_turns(clock: Clock) -> None:
    async def scenario() -> None:
        gate, log = FairGate(1), list[str]()
        await asyncio.wait_for(
            asyncio.gather(
                take_turns(gate, clock, "long", 7.0, 10, log),
                take_turns(gate, clock, "short", 1.0, 70, log),
            ),
            20,
        )
        # Seventy seconds each: at any time, neither is ahead by more than a turn of both.
        used = {"long": 0.0, "short": 0.0}
        for name in log:
            used[name] += 7.0 if name == "long" else 1.0
            assert abs(used["long"] - used["short"]) <= 8

    asyncio.run(scenario())


def test_pause_saves_up_no_time(clock: Clock) -> None:
    async def scenario() -> None:
        gate, log = FairGate(1), list[str]()
        await take_turns(gate, clock, "steady", 1.0, 100, log)
        log.clear()
        await asyncio.gather(
            take_turns(gate, clock, "steady", 1.0, 10, log),
            take_turns(gate, clock, "late", 1.0, 10, log),
        )
        # Had the late one kept its hundred seconds, it would have had all of its turns first.
        assert 4 <= log[:10].count("steady") <= 6

    asyncio.run(scenario())


def test_as_many_at_the_same_time_as_there_are_places(clock: Clock) -> None:
    async def scenario() -> None:
        gate, inside, most = FairGate(2), 0, 0

        async def visit(name: str) -> None:
            nonlocal inside, most
            async with gate.turn(name):
                inside += 1
                most = max(most, inside)
                await asyncio.sleep(0)
                inside -= 1

        await asyncio.gather(*(visit(str(number % 3)) for number in range(20)))
        assert most == 2

    asyncio.run(scenario())


@pytest.mark.parametrize("steps", range(4))
def test_customer_that_gives_up_leaves_its_place(clock: Clock, steps: int) -> None:
    async def scenario() -> None:
        gate, log = FairGate(1), list[str]()
        first = asyncio.create_task(take_turns(gate, clock, "first", 1.0, 1, log))
        await asyncio.sleep(0)
        leaving = asyncio.create_task(take_turns(gate, clock, "leaving", 1.0, 1, log))
        for _ in range(steps):
            await asyncio.sleep(0)
        leaving.cancel()
        await asyncio.gather(first, leaving, return_exceptions=True)
        await asyncio.wait_for(take_turns(gate, clock, "next", 1.0, 2, log), 5)
        assert log[-2:] == ["next", "next"]

    asyncio.run(scenario())


def test_turn_is_not_given_to_one_that_is_just_leaving(clock: Clock) -> None:
    async def scenario() -> None:
        gate, log = FairGate(1), list[str]()
        done = asyncio.Event()

        async def first() -> None:
            async with gate.turn("first"):
                await done.wait()

        tasks = [asyncio.create_task(first())]
        await asyncio.sleep(0)
        tasks += [asyncio.create_task(take_turns(gate, clock, name, 1.0, 1, log)) for name in ("leaving", "staying")]
        await asyncio.sleep(0)
        done.set()
        await asyncio.sleep(0)
        # The turn has ended by now and goes to the next in the loop's next round.
        tasks[1].cancel()
        await asyncio.wait_for(asyncio.gather(*tasks, return_exceptions=True), 5)
        assert log == ["staying"]

    asyncio.run(scenario())

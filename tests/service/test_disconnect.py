"""When a block is cancelled because its client has gone, to the turn of the event loop."""

import asyncio
from collections.abc import Awaitable, Callable

import pytest
from fastapi import Request
from starlette.requests import ClientDisconnect

from service.api.disconnect import while_connected


def with_client(scenario: Callable[[Request, asyncio.Event], Awaitable[None]]) -> None:
    """Run a scenario with a request and an event that has its client go."""

    async def run() -> None:
        goes = asyncio.Event()

        async def receive() -> dict[str, str]:
            await goes.wait()
            return {"type": "http.disconnect"}

        await scenario(Request({"type": "http"}, receive), goes)

    asyncio.run(run())


async def turns(count: int) -> None:
    for _ in range(count):
        await asyncio.sleep(0)


def test_block_is_cancelled_when_the_client_goes() -> None:
    async def scenario(request: Request, goes: asyncio.Event) -> None:
        async with while_connected(request):
            goes.set()
            await asyncio.sleep(60)

    with pytest.raises(ClientDisconnect):
        with_client(scenario)


@pytest.mark.parametrize("count", range(5))
def test_client_that_goes_as_the_block_ends_disturbs_nothing_after_it(count: int) -> None:
    """Whichever turn the block ends in, the cancellation strikes within it or not at all."""

    async def scenario(request: Request, goes: asyncio.Event) -> None:
        try:
            async with while_connected(request):
                await turns(2)
                goes.set()
                await turns(count)
        except ClientDisconnect:
            pass
        await turns(5)
        task = asyncio.current_task()
        assert task is not None
        assert task.cancelling() == 0

    with_client(scenario)


def test_block_that_has_ended_is_left_alone() -> None:
    async def scenario(request: Request, goes: asyncio.Event) -> None:
        async with while_connected(request):
            await turns(2)
        goes.set()
        await turns(5)

    with_client(scenario)

"""Stop the work of a request whose client has gone away."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from fastapi import Request
from starlette.requests import ClientDisconnect


@asynccontextmanager
async def while_connected(request: Request) -> AsyncIterator[None]:
    """Cancel the block as soon as the client closes its connection. The body must have been read.

    Raises:
        ClientDisconnect: The client has gone; nobody is left to answer.
    """
    task = asyncio.current_task()
    assert task is not None
    cancelled_before = task.cancelling()
    gone = left = False

    def stop(_watcher: asyncio.Task[Any]) -> None:
        nonlocal gone
        # The block may have ended since the client went, in the same turn of the event loop.
        if not left:
            gone = True
            task.cancel()

    watcher = asyncio.create_task(_disconnected(request))
    watcher.add_done_callback(stop)
    try:
        yield
    except asyncio.CancelledError as error:
        # Somebody else may have cancelled the task as well, a deadline for one: then it is theirs to go on with.
        if gone and task.uncancel() <= cancelled_before:
            raise ClientDisconnect from error
        raise
    finally:
        left = True
        watcher.cancel()


async def _disconnected(request: Request) -> None:
    while (await request.receive())["type"] != "http.disconnect":
        pass

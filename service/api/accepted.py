"""The way of every request to a model, from the socket to its answer."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from time import perf_counter
from typing import TypeVar

from fastapi import Request

from service.api.disconnect import while_connected
from service.api.state import server_state
from service.context import current_request
from service.pipeline import Job
from service.repository.served import ManifestT, ServedModel

T = TypeVar("T")


@asynccontextmanager
async def accepted(
    request: Request, model: ServedModel[ManifestT], receiving: AbstractAsyncContextManager[T]
) -> AsyncIterator[tuple[Job[ManifestT], T]]:
    """Accept `request`, which is for `model`, and yield it with what `receiving` made of its body.

    The block is cancelled when the client goes away or the time is over.

    Raises:
        ServiceError: Anything that ServerState.accept, `receiving` or the block raises.
        ClientDisconnect: Nobody is left to answer.
    """
    began, state = perf_counter(), server_state(request)
    if context := current_request():
        context.model = model.manifest.full_name
    # Outermost, so that it counts what is refused at once as well.
    with model.batcher.statistics.request():
        async with state.accept(model) as caller, receiving as received, while_connected(request):
            there = perf_counter()
            yield Job(model, caller, state.lease_pictures(), began, received=there, turn=there), received

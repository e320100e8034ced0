"""The way of every request to a model, from the socket to its answer."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from time import perf_counter
from typing import Any, TypeVar

from fastapi import Request

from service.api.disconnect import while_connected
from service.api.state import ServerState, server_state
from service.context import current_request
from service.errors import OverloadedError
from service.job import Job
from service.priority import Priority
from service.repository.served import ManifestT, ServedModel
from service.service_time import retry_after

T = TypeVar("T")

# How much of its time a request may be expected to wait. Its own work comes after that, and the estimate errs: one that
# is late has cost the work of one that would not have been.
WAITING_SHARE = 0.75


@asynccontextmanager
async def admitted(
    request: Request,
    model: ServedModel[ManifestT],
    receiving: AbstractAsyncContextManager[T],
    priority: Priority = "normal",
) -> AsyncIterator[tuple[Job[ManifestT], T]]:
    """Accept `request`, which is for `model`, and yield it with what `receiving` made of its body.

    Whoever calls this has asked ServerState.check_open. The block is cancelled when the client goes away, when the
    model's time is over, or when the server has drained for as long as it may. Without its `priority`, which may stand
    in the body, a request is accepted as a normal one.

    Raises:
        NotReadyError: The model's runtime hangs or fails, or the drain was over before the block was done.
        OverloadedError: What waits already takes longer than the request may.
        DeadlineExceededError: The block took longer than it may.
        ClientDisconnect: Nobody is left to answer.
        ServiceError: Anything that `receiving` or the block raises.
    """
    began, state = perf_counter(), server_state(request)
    if context := current_request():
        context.model = model.manifest.full_name
    # Outermost, so that it counts what is refused at once as well.
    with model.batcher.statistics.request():
        model.batcher.check_running()
        _check_time(state, model, priority)
        with state.metrics.in_flight.track_inprogress(), model.in_use() as caller:
            async with (
                state.deadlines.within(model.request_timeout),
                receiving as received,
                while_connected(request),
            ):
                there = perf_counter()
                yield Job(model, caller, state.lease_pictures(), began, received=there, turn=there), received


def _check_time(state: ServerState, model: ServedModel[Any], priority: Priority) -> None:
    """Go on if what is waiting ahead of a request to `model` lets it be done in time."""
    wait = max(state.pool.expected_wait(priority), model.batcher.expected_wait(priority))
    if (too_long := wait - WAITING_SHARE * model.request_timeout) > 0:
        raise OverloadedError(
            f"what is waiting takes about {wait:.1f} s, and of the {model.request_timeout:g} s that a request gets "
            f"it may wait {WAITING_SHARE:.0%}: try again later",
            retry_after=retry_after(too_long),
        )

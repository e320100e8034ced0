"""The request that is being worked on: its id, and where its time went. Tasks started for a request see it too."""

from __future__ import annotations

from contextvars import ContextVar
from dataclasses import dataclass, field
from uuid import uuid4


@dataclass
class RequestContext:
    """What is known of a request wherever it is worked on.

    Attributes:
        id: Given by the client, or made up; answers and log lines repeat it.
        stages: Seconds by stage, filled in when the work is done.
    """

    id: str = field(default_factory=lambda: uuid4().hex)
    stages: dict[str, float] = field(default_factory=dict)


_current: ContextVar[RequestContext | None] = ContextVar("request", default=None)


def begin_request(request: RequestContext) -> None:
    """Make `request` the one that the running task works on."""
    _current.set(request)


def current_request() -> RequestContext | None:
    """Return the request that the running task works on, or None."""
    return _current.get()


def request_id() -> str:
    """Return the id of the request that the running task works on; a new one outside of any."""
    return (current_request() or RequestContext()).id

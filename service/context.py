"""The request that is being worked on: its id, whose it is, and where its time went. Its tasks see it too."""

from __future__ import annotations

from contextvars import ContextVar
from dataclasses import dataclass, field
from uuid import uuid4


@dataclass
class RequestContext:
    """What is known of a request wherever it is worked on.

    Attributes:
        id: Given by the client, or made up; answers and log lines repeat it.
        key: Name of the key that it came with.
        stages: Seconds by stage, filled in when the work is done.
    """

    id: str = field(default_factory=lambda: uuid4().hex)
    key: str | None = None
    stages: dict[str, float] = field(default_factory=dict)

    @property
    def log_fields(self) -> dict[str, str]:
        """What every line of the log about it says."""
        return {"request_id": self.id} | ({} if self.key is None else {"key": self.key})


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

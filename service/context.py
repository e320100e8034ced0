"""The request that is being worked on: its id, whose it is, and where its time goes. Its tasks see it too."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field
from time import perf_counter
from uuid import uuid4


@dataclass(frozen=True)
class Stage:
    """A part of the work on a request.

    Attributes:
        name: receive, queue.decode (for a worker), decode, queue.batch, infer or answer.
        began, ended: perf_counter().
        error: What ended it before it was done: a stable code, or the name of an exception.
        batch_size: Largest batch that it was a part of; None where there is none.
    """

    name: str
    began: float
    ended: float
    error: str | None = None
    batch_size: int | None = None


@dataclass
class RequestContext:
    """What is known of a request wherever it is worked on.

    Attributes:
        id: Given by the client, or made up; answers and log lines repeat it.
        key: Name of the key that it came with.
        model: Name and version of the model that it is for, "name/version", once that is known.
        trace_id: Of the trace that it belongs to, 32 hexadecimal digits.
        stages: Seconds by stage, filled in when the work is done.
        history: What has been done so far, or was given up.
        error: Stable code of the problem that it was answered with.
    """

    id: str = field(default_factory=lambda: uuid4().hex)
    key: str | None = None
    model: str | None = None
    trace_id: str | None = None
    stages: dict[str, float] = field(default_factory=dict)
    history: list[Stage] = field(default_factory=list)
    error: str | None = None

    @property
    def name_and_version(self) -> tuple[str, str] | None:
        """Name and version of the model that it is for."""
        if self.model is None:
            return None
        name, _, version = self.model.rpartition("/")
        return name, version

    @property
    def log_fields(self) -> dict[str, str]:
        """What every line of the log about it says."""
        fields = {"request_id": self.id, "key": self.key, "model": self.model, "trace_id": self.trace_id}
        return {name: value for name, value in fields.items() if value is not None}


_current: ContextVar[RequestContext | None] = ContextVar("request", default=None)


def begin_request(request: RequestContext) -> None:
    """Make `request` the one that the running task works on."""
    _current.set(request)


@contextmanager
def working_on(request: RequestContext) -> Iterator[None]:
    """Make `request` the one that is worked on in the block, where no task was made for it."""
    token = _current.set(request)
    try:
        yield
    finally:
        _current.reset(token)


def current_request() -> RequestContext | None:
    """Return the request that the running task works on, or None."""
    return _current.get()


def request_id() -> str:
    """Return the id of the request that the running task works on; a new one outside of any."""
    return (current_request() or RequestContext()).id


def record_stage(
    name: str, began: float, ended: float, error: BaseException | None = None, batch_size: int | None = None
) -> None:
    """Add a part of the work to the history of the request that the running task works on, if there is one."""
    if request := current_request():
        reason = None if error is None else getattr(error, "code", type(error).__name__)
        request.history.append(Stage(name, began, ended, reason, batch_size))


@contextmanager
def stage(name: str) -> Iterator[None]:
    """Record the block as a part of the work, whether it is done or fails."""
    began = perf_counter()
    try:
        yield
    except BaseException as error:
        record_stage(name, began, perf_counter(), error)
        raise
    record_stage(name, began, perf_counter())

"""What the routes that take an upload share: how it is described, received, limited in time and given up."""

from __future__ import annotations

from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Annotated, Any, Literal

from fastapi import Request
from pydantic import BaseModel, ConfigDict, Field

from service.api.admission import admitted
from service.api.problems import Problem
from service.api.state import server_state
from service.api.upload import receive_upload
from service.errors import BadParameterError
from service.job import Job, Timing
from service.priority import Priority
from service.repository.served import ManifestT

_BINARY = {"type": "string", "format": "binary"}
REQUEST_BODY: dict[str, Any] = {
    "requestBody": {
        "required": True,
        "content": {
            "multipart/form-data": {
                "schema": {
                    "type": "object",
                    "required": ["file"],
                    "properties": {"file": _BINARY},
                    "additionalProperties": False,
                }
            },
            "application/octet-stream": {"schema": _BINARY},
            "video/*": {"schema": _BINARY},
            "image/*": {"schema": _BINARY},
        },
    }
}
PROBLEMS: dict[int | str, dict[str, Any]] = {
    status: {"model": Problem, "description": text}
    for status, text in (
        (400, "bad parameter or form, or the model does something else"),
        (401, "no key, or none that the server knows; where it has keys"),
        (404, "unknown model or version"),
        (408, "the upload stalled"),
        (413, "body too large"),
        (415, "not a format that is accepted"),
        (422, "undecodable, or over a decode limit"),
        (429, "queue full, or too much waits to be done in time; see Retry-After"),
        (431, "request line and headers too large"),
        (500, "a fault of the server"),
        (503, "starting or draining, or the model is being loaded or does not run; see Retry-After"),
        (504, "deadline exceeded"),
    )
}


class PartQuery(BaseModel):
    """Query parameters that choose a part of a video."""

    model_config = ConfigDict(extra="forbid")

    start: Annotated[float, Field(ge=0, allow_inf_nan=False)] | None = Field(
        None, description="look from here on, seconds"
    )
    end: Annotated[float, Field(gt=0, allow_inf_nan=False)] | None = Field(None, description="look up to here, seconds")


class PriorityQuery(BaseModel):
    """Query parameter that tells how urgent a request is."""

    priority: Priority = Field("normal", description="low: behind the normal requests of the next five seconds")


class ShowQuery(BaseModel):
    """Query parameter that asks for the network's input in place of its output."""

    show: Literal["answer", "frames"] = Field(
        "answer",
        description="frames: instead of an answer, a PNG of exactly the frames and crops that go into the network",
    )


class TimingBody(BaseModel):
    """Where the request's time went, seconds."""

    model_config = ConfigDict(from_attributes=True)

    receive: float
    decode: float
    queue: float
    inference: float
    total: float

    @classmethod
    def of(cls, timing: Timing) -> TimingBody:
        """Return the answer's form of `timing`."""
        return cls.model_validate(timing)


def _check_query(request: Request) -> None:
    """Refuse a parameter that is given twice: whoever reads it next may take the other one."""
    times = Counter(name for name, _ in request.query_params.multi_items())
    for name, count in times.items():
        if count > 1:
            raise BadParameterError(f"{name} is given {count} times: give it once")


@asynccontextmanager
async def accepted_upload(
    request: Request, name: str | None, version: str | None, kind: type[ManifestT], priority: Priority
) -> AsyncIterator[tuple[Job[ManifestT], int]]:
    """Accept `request` and yield it with the file descriptor of its upload.

    Args:
        request: Its body is the upload.
        name: Of the model; None: the default one of that kind.
        version: Of the model; None: its default one.
        kind: What the model must do.
        priority: Of the request.

    Raises:
        ServiceError: Anything that `service.errors` names.
        ClientDisconnect: Nobody is left to answer.
    """
    state = server_state(request)
    settings = state.settings
    _check_query(request)
    state.check_open()
    model = state.repository.get(name, version, kind)
    receiving = receive_upload(request, settings.max_body_bytes, settings.upload_idle_timeout, state.upload_memory)
    async with admitted(request, model, receiving, priority) as (job, upload):
        yield job, upload

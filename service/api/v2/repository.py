"""POST /v2/repository/index and /v2/repository/models/{name}[/versions/{version}]/load and unload."""

from __future__ import annotations

from fastapi import APIRouter, Depends, Request, Response
from pydantic import BaseModel, StrictBool

from service.api.admin import require_admin
from service.api.body import body_chunks, check_body_headers
from service.api.deadline import deadline
from service.api.state import ServerState, server_state
from service.api.v2.schema import ModelT, NoParameters, Parameters, UnloadParameters, checked, parse_json
from service.errors import PayloadTooLargeError, UnsupportedError

_MAX_REQUEST_BYTES = 4096

router = APIRouter(prefix="/v2/repository", tags=["Open Inference Protocol"])
# Included once with and once without a version.
changes_router = APIRouter(tags=["Open Inference Protocol"], dependencies=[Depends(require_admin)])


class IndexRequest(BaseModel):
    """What the index of the repository is to show."""

    ready: StrictBool = False


class ChangeRequest(BaseModel):
    """How a model is to be loaded or unloaded."""

    parameters: Parameters = {}


@router.post("/index")
async def repository_index(request: Request) -> list[dict[str, str]]:
    """List the versions of all models with their states."""
    asked = await _receive(request, IndexRequest)
    return [
        {"name": model.name, "version": str(version.number), "state": version.state, "reason": version.reason}
        for model in server_state(request).repository
        for version in model.versions.values()
        if version.state == "READY" or not asked.ready
    ]


@changes_router.post("/load")
async def load(request: Request) -> Response:
    """Load a model as it lies in the repository now; with a version, that one besides those that are served."""
    state = _one_process(request)
    asked = await _receive(request, ChangeRequest)
    checked(NoParameters, asked.parameters, "parameters")
    await state.repository.load_model(request.path_params["name"], request.path_params.get("version"))
    return Response()


@changes_router.post("/unload")
async def unload(request: Request) -> Response:
    """Serve a model, or one version of it, no longer; accepted requests are finished."""
    state = _one_process(request)
    asked = await _receive(request, ChangeRequest)
    checked(UnloadParameters, asked.parameters, "parameters")
    await state.repository.unload_model(request.path_params["name"], request.path_params.get("version"))
    return Response()


def _one_process(request: Request) -> ServerState:
    """Return the state of the server that `request` came to, if it takes requests and is the only one.

    Raises:
        NotReadyError: Starting or draining.
        UnsupportedError: There are others, which would not hear of it.
    """
    state = server_state(request)
    state.check_open()
    if state.settings.processes > 1:
        raise UnsupportedError(
            f"this is one of {state.settings.processes} server processes and the others would not follow: set "
            "CLIPSERVE_WATCH_INTERVAL, with which all of them follow the repository folder, or serve with one process"
        )
    return state


async def _receive(request: Request, kind: type[ModelT]) -> ModelT:
    """Return the small JSON body of `request`; nothing is as good as an empty object."""
    content = bytearray()
    settings = server_state(request).settings
    check_body_headers(request, _MAX_REQUEST_BYTES)
    async with deadline(settings.request_timeout):
        async for chunk in body_chunks(request, settings.upload_idle_timeout):
            if len(content) + len(chunk) > _MAX_REQUEST_BYTES:
                raise PayloadTooLargeError(f"the request has more than {_MAX_REQUEST_BYTES} bytes, which is the limit")
            content.extend(chunk)
    return checked(kind, parse_json(content or b"{}"), "the request")

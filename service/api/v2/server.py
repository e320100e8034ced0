"""GET /v2, /v2/health/live, /v2/health/ready, /v2/models and POST /v2/repository/index."""

from __future__ import annotations

from importlib.metadata import version
from typing import Any

from fastapi import APIRouter, Request
from pydantic import BaseModel, StrictBool

from service.api.health import ready as ready_or_not
from service.api.state import server_state
from service.api.upload import receive_body
from service.api.v2.schema import checked, parse_json
from service.errors import PayloadTooLargeError

EXTENSIONS = ("binary_tensor_data", "classification", "model_configuration", "parameters", "statistics")
_MAX_INDEX_REQUEST_BYTES = 4096

router = APIRouter(prefix="/v2", tags=["Open Inference Protocol"])


class IndexRequest(BaseModel):
    """What the index of the repository is to show."""

    ready: StrictBool = False


@router.get("")
async def server_metadata() -> dict[str, Any]:
    """Describe the server."""
    return {"name": "clipserve", "version": version("clipserve"), "extensions": EXTENSIONS}


@router.get("/health/live")
async def live() -> dict[str, bool]:
    """Tell that the process answers."""
    return {"live": True}


@router.get("/health/ready")
async def ready(request: Request) -> dict[str, bool]:
    """Tell whether all models take requests; 503 while starting or draining."""
    await ready_or_not(request)
    return {"ready": True}


@router.get("/models")
async def list_models(request: Request) -> dict[str, list[str]]:
    """Name the loaded models."""
    return {"models": [model.manifest.name for model in server_state(request).repository]}


@router.post("/repository/index")
async def repository_index(request: Request) -> list[dict[str, str]]:
    """List the loaded models with their state."""
    content = bytearray()

    def write(chunk: bytes) -> None:
        if len(content) + len(chunk) > _MAX_INDEX_REQUEST_BYTES:
            raise PayloadTooLargeError(f"the request has more than {_MAX_INDEX_REQUEST_BYTES} bytes")
        content.extend(chunk)

    state = server_state(request)
    await receive_body(request, write, state.settings.upload_idle_timeout)
    asked = checked(IndexRequest, parse_json(content or b"{}"), "the request")
    models = [
        {
            "name": model.manifest.name,
            "version": model.manifest.version,
            "state": "READY" if model.batcher.alive else "UNAVAILABLE",
            "reason": "" if model.batcher.alive else "its batcher has stopped",
        }
        for model in state.repository
    ]
    return [model for model in models if model["state"] == "READY"] if asked.ready else models

"""GET /v2, /v2/health/live, /v2/health/ready and /v2/models."""

from __future__ import annotations

from importlib.metadata import version
from typing import Any

from fastapi import APIRouter, Request

from service.api.health import ready as ready_or_not
from service.api.state import server_state

EXTENSIONS = (
    "binary_tensor_data",
    "classification",
    "model_configuration",
    "model_repository",
    "model_repository(unload_dependents)",
    "parameters",
    "schedule_policy",
    "statistics",
)

router = APIRouter(prefix="/v2", tags=["Open Inference Protocol"])


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
    """Name the models that are served."""
    return {"models": [model.name for model in server_state(request).repository if model.alive]}

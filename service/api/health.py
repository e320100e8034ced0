"""GET /healthz, /readyz and /metrics."""

from __future__ import annotations

from fastapi import APIRouter, Request, Response
from prometheus_client import CONTENT_TYPE_LATEST

from service.api.state import server_state
from service.errors import NotReadyError

router = APIRouter(tags=["health"])


@router.get("/healthz")
async def alive() -> dict[str, str]:
    """Tell that the process answers."""
    return {"status": "alive"}


@router.get("/readyz")
async def ready(request: Request) -> dict[str, str]:
    """Tell whether requests are answered; 503 while starting, draining, or when something has failed or hangs."""
    if problem := server_state(request).problem:
        raise NotReadyError(problem, retry_after=1)
    return {"status": "ready"}


@router.get("/metrics", response_class=Response)
async def metrics(request: Request) -> Response:
    """Return the metrics in Prometheus' text format."""
    return Response(server_state(request).metrics.exposition(), media_type=CONTENT_TYPE_LATEST)

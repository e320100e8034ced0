"""Every path of the protocol."""

from __future__ import annotations

from fastapi import FastAPI

from service.api.v2 import inference, models, server


def include_inference_protocol(app: FastAPI) -> None:
    """Add the protocol's routes to `app`."""
    app.include_router(server.router)
    # Before the paths with a name, or `stats` would be one.
    app.include_router(models.all_models_router)
    for prefix in ("/v2/models/{name}", "/v2/models/{name}/versions/{version}"):
        app.include_router(models.router, prefix=prefix)
        app.include_router(inference.router, prefix=prefix)

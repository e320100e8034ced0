"""Every path of the protocol."""

from __future__ import annotations

from typing import Annotated

from fastapi import Depends, FastAPI, Path

from service.api.v2 import inference, models, server


def include_inference_protocol(app: FastAPI) -> None:
    """Add the protocol's routes to `app`."""
    app.include_router(server.router)
    # Before the paths with a name, or `stats` would be one.
    app.include_router(models.all_models_router)
    for prefix, described in (
        ("/v2/models/{name}", _describe_name),
        ("/v2/models/{name}/versions/{version}", _describe_version),
    ):
        for router in (models.router, inference.router):
            app.include_router(router, prefix=prefix, dependencies=[Depends(described)])


# `asked_model` reads the path itself, because the version is not in all of them; these put both into /docs.
async def _describe_name(_name: Annotated[str, Path(alias="name", description="of the model")]) -> None:
    pass


async def _describe_version(
    _name: Annotated[str, Path(alias="name", description="of the model")],
    _version: Annotated[str, Path(alias="version", description="of the model")],
) -> None:
    pass

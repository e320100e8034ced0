"""Every path of the protocol."""

from __future__ import annotations

from typing import Annotated

from fastapi import Depends, FastAPI, Path

from service.api.v2 import inference, models, repository, server


def include_inference_protocol(app: FastAPI) -> None:
    """Add the protocol's routes to `app`."""
    app.include_router(server.router)
    app.include_router(repository.router)
    # Before the paths with a name, or `stats` would be one.
    app.include_router(models.all_models_router)
    for path, described in (
        ("/models/{name}", _describe_name),
        ("/models/{name}/versions/{version}", _describe_version),
    ):
        for router, prefix in (
            (models.router, "/v2"),
            (inference.router, "/v2"),
            (repository.changes_router, "/v2/repository"),
        ):
            app.include_router(router, prefix=prefix + path, dependencies=[Depends(described)])


# `asked_model` reads the path itself, because the version is not in all of them; these put both into /docs.
async def _describe_name(_name: Annotated[str, Path(alias="name", description="of the model")]) -> None:
    pass


async def _describe_version(
    _name: Annotated[str, Path(alias="name", description="of the model")],
    _version: Annotated[str, Path(alias="version", description="of the model")],
) -> None:
    pass

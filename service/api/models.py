"""GET /v1/models and /v1/models/{name}."""

from __future__ import annotations

from typing import Any

from fastapi import APIRouter, Request
from pydantic import BaseModel, Field

from service.api.problems import Problem
from service.api.state import server_state
from service.manifest import Manifest, PrecisionName
from service.repository import Repository, ServedModel

router = APIRouter(prefix="/v1", tags=["models"])


class ModelSummary(BaseModel):
    """One line of the list of models."""

    name: str
    version: str
    task: str
    default: bool
    num_classes: int
    input_shape: list[int | str]
    runtime: str
    precision: PrecisionName
    queue_depth: int


class ModelList(BaseModel):
    """All loaded models."""

    models: list[ModelSummary]


class ModelDetails(ModelSummary):
    """Everything about one model."""

    labels: list[str]
    manifest: Manifest = Field(discriminator="task")


@router.get("/models")
async def list_models(request: Request) -> ModelList:
    """List the loaded models."""
    repository = server_state(request).repository
    return ModelList(models=[_summary(model, repository) for model in repository])


@router.get("/models/{name}", responses={404: {"model": Problem, "description": "unknown model"}})
async def model_details(request: Request, name: str) -> ModelDetails:
    """Describe one model: its manifest and its labels."""
    repository = server_state(request).repository
    model = repository.find(name)
    summary = _summary(model, repository)
    return ModelDetails(**summary.model_dump(), labels=list(model.artefact.labels), manifest=model.manifest)


def _summary(model: ServedModel[Any], repository: Repository) -> ModelSummary:
    manifest = model.manifest
    return ModelSummary(
        name=manifest.name,
        version=manifest.version,
        task=manifest.task,
        default=manifest.name == repository.default_name(type(manifest)),
        num_classes=manifest.num_classes,
        input_shape=list(manifest.inputs[0].shape),
        runtime=model.runtime.name,
        precision=model.runtime.precision,
        queue_depth=model.batcher.queue_depth,
    )

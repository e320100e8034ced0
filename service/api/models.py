"""GET /v1/models and /v1/models/{name}[/versions/{version}]."""

from __future__ import annotations

from typing import Any

from fastapi import APIRouter, Request
from pydantic import BaseModel, Field

from service.api.problems import Problem
from service.api.state import server_state
from service.manifest import Manifest, PrecisionName
from service.repository.registry import Repository
from service.repository.served import ServedModel
from service.repository.versions import Model, State

router = APIRouter(prefix="/v1", tags=["models"])


class VersionBody(BaseModel):
    """One version of a model that is served, or lies in the repository."""

    version: str
    state: State
    reason: str = Field(description="why it is not served, or why what lies in the repository now is not")
    trained: bool | None = Field(
        description="false: it was exported without a checkpoint, and its answers mean nothing; null: it is not loaded"
    )


class VersionsBody(BaseModel):
    """All versions of one model, the lowest first."""

    name: str
    versions: list[VersionBody]


class ModelSummary(VersionsBody):
    """One line of the list of models; all but `versions` is about the version `version`."""

    version: str
    task: str
    default: bool = Field(description="whether it is behind the path of its task that has no name")
    num_classes: int
    input_shape: list[int | str]
    runtime: str
    precision: PrecisionName
    queue_depth: int


class ModelList(BaseModel):
    """All models, those that are served in their default version."""

    models: list[ModelSummary]
    unavailable: list[VersionsBody] = Field(description="those of which no version answers requests without one")


class ModelDetails(ModelSummary):
    """Everything about one model."""

    labels: list[str]
    manifest: Manifest = Field(discriminator="task")


_UNKNOWN: dict[int | str, dict[str, Any]] = {404: {"model": Problem, "description": "unknown model or version"}}


@router.get("/models")
async def list_models(request: Request) -> ModelList:
    """List the models and the states of their versions."""
    repository = server_state(request).repository
    return ModelList(
        models=[_summary(model, model.default, repository) for model in repository if model.default],
        unavailable=[
            VersionsBody(name=model.name, versions=_versions(model)) for model in repository if not model.default
        ],
    )


@router.get("/models/{name}", responses=_UNKNOWN)
async def model_details(request: Request, name: str) -> ModelDetails:
    """Describe the default version of a model: its manifest and its labels."""
    return _details(server_state(request).repository, name, None)


@router.get("/models/{name}/versions/{version}", responses=_UNKNOWN)
async def version_details(request: Request, name: str, version: str) -> ModelDetails:
    """Describe one version of a model: its manifest and its labels."""
    return _details(server_state(request).repository, name, version)


def _details(repository: Repository, name: str, version: str | None) -> ModelDetails:
    served = repository.find(name, version)
    summary = _summary(repository.model(name), served, repository)
    return ModelDetails(**summary.model_dump(), labels=list(served.artefact.labels), manifest=served.manifest)


def _summary(model: Model, served: ServedModel[Any], repository: Repository) -> ModelSummary:
    manifest = served.manifest
    return ModelSummary(
        name=model.name,
        versions=_versions(model),
        version=manifest.version,
        task=manifest.task,
        default=served is repository.default(type(manifest)),
        num_classes=manifest.num_classes,
        input_shape=list(manifest.inputs[0].shape),
        runtime=served.runtime.name,
        precision=served.runtime.precision,
        queue_depth=served.batcher.queue_depth,
    )


def _versions(model: Model) -> list[VersionBody]:
    return [
        VersionBody(
            version=str(version.number),
            state=version.state,
            reason=version.reason,
            trained=None if version.model is None else version.model.manifest.is_trained,
        )
        for version in model.versions.values()
    ]

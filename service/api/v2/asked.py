"""Find the model that a path under /v2/models names."""

from __future__ import annotations

from typing import Any

from fastapi import Request

from service.api.state import ServerState, server_state
from service.api.v2.classifier import ClassifierContract
from service.api.v2.contract import Contract
from service.api.v2.segmenter import SegmenterContract
from service.errors import NotReadyError, UnknownModelError
from service.manifest import ClassifierManifest
from service.repository import ServedModel


def asked_model(request: Request) -> ServedModel[Any]:
    """Return the model whose name, and version if there is one, are in the path of `request`.

    Raises:
        UnknownModelError: It is not loaded, or not in that version.
        NotReadyError: It may be, once the server has started.
    """
    state = server_state(request)
    if state.phase == "starting":
        raise NotReadyError("the server is starting; try again in a moment", retry_after=1)
    model = state.repository.find(request.path_params["name"])
    version = request.path_params.get("version", model.manifest.version)
    if version != model.manifest.version:
        raise UnknownModelError(
            f"{model.manifest.name} is loaded in version {model.manifest.version}, not {version!r:.40}"
        )
    return model


def contract_of(model: ServedModel[Any], state: ServerState) -> Contract[Any]:
    """Return the model as the protocol sees it."""
    if isinstance(model.manifest, ClassifierManifest):
        return ClassifierContract(model, state.settings)
    return SegmenterContract(model, state.settings)

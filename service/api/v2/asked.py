"""Find the model that a path under /v2/models names."""

from __future__ import annotations

from typing import Any

from fastapi import Request

from service.api.state import ServerState, server_state
from service.api.v2.classifier import ClassifierInterface
from service.api.v2.interface import ModelInterface
from service.api.v2.segmenter import SegmenterInterface
from service.errors import NotReadyError
from service.manifest import ClassifierManifest
from service.repository.served import ServedModel


def asked_model(request: Request) -> ServedModel[Any]:
    """Return what serves the model whose name, and version if there is one, are in the path of `request`.

    Raises:
        UnknownModelError: Nothing does.
        NotReadyError: Something may, once it is loaded.
    """
    state = server_state(request)
    if state.phase == "starting":
        raise NotReadyError("the server is starting; try again in a moment", retry_after=1)
    return state.repository.find(request.path_params["name"], request.path_params.get("version"))


def interface_of(model: ServedModel[Any], state: ServerState) -> ModelInterface[Any]:
    """Return the model as the protocol sees it."""
    if isinstance(model.manifest, ClassifierManifest):
        return ClassifierInterface(model, state.settings)
    return SegmenterInterface(model, state.settings)

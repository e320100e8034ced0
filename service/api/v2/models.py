"""GET /v2/models/{name}[/versions/{version}] and below it ready, config and stats; GET /v2/models/stats."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

from fastapi import APIRouter, Request

from service.api.state import server_state
from service.api.v2.asked import asked_model, interface_of
from service.api.v2.interface import Tensor
from service.errors import NotReadyError
from service.repository.served import ServedModel
from service.settings import VersionChoice
from service.statistics import Durations, ModelStatistics, Stages

# By the beginning of the runtime's name: what the protocol calls a platform is project_format.
_PLATFORMS = {"onnxruntime": "onnx_onnxv1", "openvino": "openvino_onnxv1", "tensorrt": "tensorrt_plan"}

# One for all models, one for a model: that is included once with and once without a version.
all_models_router = APIRouter(prefix="/v2/models", tags=["Open Inference Protocol"])
router = APIRouter(tags=["Open Inference Protocol"])


@all_models_router.get("/stats")
async def all_statistics(request: Request) -> dict[str, Any]:
    """Tell what all models have done."""
    repository = server_state(request).repository
    return {"model_stats": [_model_statistics(served) for model in repository for served in model.alive]}


@router.get("")
async def model_metadata(request: Request) -> dict[str, Any]:
    """Describe a model: the tensors that it takes, of which a request has one, and those that it gives."""
    model = asked_model(request)
    interface = interface_of(model, server_state(request))
    return {
        "name": model.manifest.name,
        "versions": [served.manifest.version for served in _all_versions(request)],
        "platform": _platform(model),
        "inputs": [asdict(tensor) for tensor in interface.inputs],
        "outputs": [asdict(tensor) for tensor in interface.outputs],
    }


@router.get("/ready")
async def model_ready(request: Request) -> dict[str, Any]:
    """Tell whether a model takes requests; 503 if not."""
    model, state = asked_model(request), server_state(request)
    problem = model.batcher.problem if state.phase == "ready" else f"the server is {state.phase}"
    if problem:
        raise NotReadyError(f"{model.manifest.name} takes no requests: {problem}", retry_after=1)
    return {"name": model.manifest.name, "ready": True}


@router.get("/config")
async def model_config(request: Request) -> dict[str, Any]:
    """Describe a model in the terms of Triton's model configuration, with the first axis as the batch."""
    model = asked_model(request)
    interface = interface_of(model, server_state(request))
    batch = model.batcher.settings
    return {
        "name": model.manifest.name,
        "platform": _platform(model),
        "backend": model.runtime.name,
        "version_policy": _version_policy(server_state(request).settings.of_model(model.manifest.name).versions),
        "max_batch_size": batch.max_batch_size,
        "input": [_configured(tensor) for tensor in interface.inputs],
        "output": [_configured(tensor) for tensor in interface.outputs],
        "dynamic_batching": {
            "preferred_batch_size": [batch.max_batch_size],
            "max_queue_delay_microseconds": round(batch.max_queue_delay * 1e6),
        },
    }


@router.get("/stats")
async def model_statistics(request: Request) -> dict[str, Any]:
    """Tell what a model has done: the version that is asked for, or each that is served."""
    models = [asked_model(request)] if "version" in request.path_params else _all_versions(request)
    return {"model_stats": [_model_statistics(model) for model in models]}


def _all_versions(request: Request) -> list[ServedModel[Any]]:
    return server_state(request).repository.model(request.path_params["name"]).alive


def _version_policy(choice: VersionChoice) -> dict[str, Any]:
    if isinstance(choice, str):
        return {"all": {}} if choice == "all" else {"latest": {"num_versions": 1}}
    return {"specific": {"versions": list(choice)}}


def _platform(model: ServedModel[Any]) -> str:
    name = model.runtime.name
    return next((platform for start, platform in _PLATFORMS.items() if name.startswith(start)), name)


def _configured(tensor: Tensor) -> dict[str, Any]:
    kind = "STRING" if tensor.datatype == "BYTES" else tensor.datatype
    return {"name": tensor.name, "data_type": f"TYPE_{kind}", "dims": list(tensor.shape[1:])}


def _model_statistics(model: ServedModel[Any]) -> dict[str, Any]:
    statistics: ModelStatistics = model.batcher.statistics
    return {
        "name": model.manifest.name,
        "version": model.manifest.version,
        "last_inference": statistics.last_inference,
        "inference_count": statistics.views,
        "execution_count": statistics.executions,
        "inference_stats": {
            "success": _durations(statistics.success),
            "fail": _durations(statistics.fail),
            "queue": _durations(statistics.queue),
            **_stages(statistics.stages),
            # There is no cache of answers.
            "cache_hit": _durations(Durations()),
            "cache_miss": _durations(Durations()),
        },
        "batch_stats": [{"batch_size": size, **_stages(stages)} for size, stages in sorted(statistics.batches.items())],
    }


def _stages(stages: Stages) -> dict[str, Any]:
    return {
        "compute_input": _durations(stages.input),
        "compute_infer": _durations(stages.infer),
        "compute_output": _durations(stages.output),
    }


def _durations(durations: Durations) -> dict[str, int]:
    return {"count": durations.count, "ns": round(durations.seconds * 1e9)}

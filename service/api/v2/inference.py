"""POST /v2/models/{name}[/versions/{version}]/infer."""

from __future__ import annotations

from typing import Any

import numpy as np
from fastapi import APIRouter, Request, Response
from numpy.typing import NDArray

from service.api.admission import admitted
from service.api.deadline import deadline
from service.api.state import ServerState, server_state
from service.api.v2.asked import asked_model, interface_of
from service.api.v2.call import WantedOutput
from service.api.v2.interface import ModelInterface
from service.api.v2.reception import Received, receive_call
from service.api.v2.tensors import BytesTensor, OutputTensor, Value, infer_response
from service.errors import BadParameterError
from service.job import Job
from service.offloading import off_loop
from service.outputs.classification import top_k

# Included once with and once without a version.
router = APIRouter(tags=["Open Inference Protocol"])

_REQUEST_BODY: dict[str, Any] = {
    "requestBody": {
        "required": True,
        "content": {
            "application/json": {"schema": {"type": "object", "required": ["inputs"]}},
            "application/octet-stream": {"schema": {"type": "string", "format": "binary"}},
        },
    }
}


@router.post("/infer", openapi_extra=_REQUEST_BODY, response_class=Response)
async def infer(request: Request) -> Response:
    """Run a model on encoded files (input `clip`) or on decoded frames (input `frames`)."""
    _check_query(request)
    state = server_state(request)
    state.check_open()
    model = asked_model(request)
    interface = interface_of(model, state)
    async with (
        admitted(request, model, receive_call(request, interface, state)) as (job, received),
        deadline(received.call.parameters.timeout / 1e6 or None),
    ):
        return await _answer(state, interface, job, received)


def _check_query(request: Request) -> None:
    """Refuse what the protocol has no place for, before somebody believes that it does anything."""
    if request.query_params:
        names = ", ".join(request.query_params)
        raise BadParameterError(
            f"query parameters: {names!r:.200}; there are none here, put them into `parameters` of the request's JSON"
        )


async def _answer(state: ServerState, interface: ModelInterface[Any], job: Job[Any], received: Received) -> Response:
    call = received.call
    if received.frames is not None:
        answered = await interface.answer_frames(state.pipeline, job, received.frames, call.parameters)
    else:
        answered = await interface.answer_clips(state.pipeline, job, received.clips, call.parameters)
    manifest, labels = interface.model.manifest, interface.model.artefact.labels
    fields: dict[str, Any] = {"model_name": manifest.name, "model_version": manifest.version}
    if call.id is not None:
        fields["id"] = call.id
    fields["parameters"] = {"batch_size": answered.batch_size}

    def write() -> Response:
        outputs = [
            OutputTensor(wanted.name, _value(answered.outputs[wanted.name], wanted, labels), wanted.binary)
            for wanted in call.outputs
        ]
        return infer_response(fields, outputs, state.settings.max_json_bytes)

    return await off_loop(sum(value.nbytes for value in answered.outputs.values()), write)


def _value(value: NDArray[Any], wanted: WantedOutput, labels: tuple[str, ...]) -> Value:
    return value if wanted.classification is None else named_classes(value, labels, wanted.classification)


def named_classes(rows: NDArray[np.float32], labels: tuple[str, ...], count: int) -> BytesTensor:
    """Return the best classes of each row as value:index:label, at most `count`."""
    elements = [
        f"{best.score}:{best.index}:{best.label}".encode() for row in rows for best in top_k(row, labels, count)
    ]
    return BytesTensor((len(rows), min(count, len(labels))), elements)

"""What an inference request asks for, once its JSON is understood and fits the model."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import prod
from typing import Any

from service.api.v2.interface import CLIP, FRAMES, ModelInterface, Tensor
from service.api.v2.schema import (
    InferRequest,
    InputParameters,
    OutputParameters,
    RequestInput,
    RequestOutput,
    RequestParameters,
    checked,
)
from service.errors import BadParameterError


@dataclass(frozen=True)
class WantedOutput:
    """One output of the answer.

    Attributes:
        binary: Whether as binary data.
        classification: Classes to name in place of the tensor; None: the tensor itself.
    """

    name: str
    binary: bool
    classification: int | None = None


@dataclass(frozen=True)
class Call:
    """An inference request.

    Attributes:
        id: The client's name for it.
        input: `clip` or `frames`.
        shape: Of the input; fits the model, within its limits.
        binary_size: Bytes of the input behind the JSON; None: it was in the JSON.
        parameters: Of the request.
        outputs: What is wanted.
    """

    id: str | None
    input: str
    shape: tuple[int, ...]
    binary_size: int | None
    parameters: RequestParameters
    outputs: tuple[WantedOutput, ...]


def call_of(request: InferRequest, interface: ModelInterface[Any]) -> Call:
    """Return what `request` asks of the model.

    Raises:
        BadParameterError: It asks for something that the model does not know, or for more than a limit.
    """
    asked = _only_input(request.inputs, interface)
    where = f"input `{asked.name}`"
    own = checked(InputParameters, asked.parameters, f"{where}: parameters")
    parameters = checked(interface.parameters_of(asked.name), request.parameters, "parameters")
    _check_shape(asked, interface)
    if asked.name == CLIP:
        interface.check_clips(asked.shape[0], parameters)
    else:
        interface.check_frames(asked.shape)
    if (own.binary_data_size is None) == (asked.data is None):
        raise BadParameterError(f"{where}: give either `data`, or the parameter `binary_data_size` and binary data")
    _check_binary_size(asked, own.binary_data_size)
    outputs = _wanted(request.outputs or [], asked.name, parameters.binary_data_output, interface)
    return Call(request.id, asked.name, tuple(asked.shape), own.binary_data_size, parameters, outputs)


def raw_call(interface: ModelInterface[Any]) -> Call:
    """Return what a request without any JSON asks for: everything about one encoded file, as binary data."""
    parameters = interface.clip_parameters(binary_data_output=True)
    interface.check_clips(1, parameters)
    return Call(None, CLIP, (1,), None, parameters, _wanted([], CLIP, True, interface))


def _only_input(inputs: Sequence[RequestInput], interface: ModelInterface[Any]) -> RequestInput:
    known = [tensor.name for tensor in interface.inputs]
    names = [tensor.name for tensor in inputs]
    if len(names) != 1 or names[0] not in known:
        raise BadParameterError(f"inputs: {names!r:.200}; send exactly one, {' or '.join(known)}")
    return inputs[0]


def _check_shape(asked: RequestInput, interface: ModelInterface[Any]) -> None:
    expected: Tensor = next(tensor for tensor in interface.inputs if tensor.name == asked.name)
    if asked.datatype != expected.datatype:
        raise BadParameterError(
            f"input `{asked.name}` is of datatype {asked.datatype!r:.40}; it must be {expected.datatype}"
        )
    fits = len(asked.shape) == len(expected.shape) and all(
        axis in (-1, length) for axis, length in zip(expected.shape, asked.shape, strict=True)
    )
    if not fits:
        raise BadParameterError(
            f"input `{asked.name}` is of shape {asked.shape}; it must be {list(expected.shape)}, -1 being any length"
        )


def _check_binary_size(asked: RequestInput, size: int | None) -> None:
    if asked.name == FRAMES and size is not None and size != prod(asked.shape):
        raise BadParameterError(
            f"input `{FRAMES}` of shape {asked.shape} takes {prod(asked.shape)} bytes and binary_data_size is {size}"
        )


def _wanted(
    outputs: Sequence[RequestOutput], given: str, binary_by_default: bool, interface: ModelInterface[Any]
) -> tuple[WantedOutput, ...]:
    there = interface.outputs_of[given]
    if not outputs:
        return tuple(WantedOutput(name, binary_by_default) for name in there)
    names = [output.name for output in outputs]
    wrong = [name for name in names if name not in there]
    if wrong or len(set(names)) < len(names):
        raise BadParameterError(
            f"outputs: {names!r:.200}; input `{given}` gives {', '.join(there)}, each of which can be asked for once"
        )
    return tuple(_wanted_output(output, binary_by_default, interface) for output in outputs)


def _wanted_output(output: RequestOutput, binary_by_default: bool, interface: ModelInterface[Any]) -> WantedOutput:
    parameters = checked(OutputParameters, output.parameters, f"output `{output.name}`: parameters")
    if parameters.classification is not None and output.name not in interface.class_outputs:
        raise BadParameterError(
            f"output `{output.name}` has no classes to name: leave out the parameter classification"
        )
    binary = binary_by_default if parameters.binary_data is None else parameters.binary_data
    return WantedOutput(output.name, binary, parameters.classification)

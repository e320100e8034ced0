"""The JSON of an inference request: its fields, and its parameters, which are checked once their meaning is known."""

from __future__ import annotations

from typing import Annotated, Any, Literal, TypeVar

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, StrictBool, StrictInt, StrictStr, ValidationError
from pydantic_core import from_json

from service.api.v2.numbers import take_out_numbers
from service.errors import BadParameterError
from service.priority import Priority

ModelT = TypeVar("ModelT", bound=BaseModel)

MAX_INT64 = (1 << 63) - 1
MAX_UINT64 = (1 << 64) - 1
HIGHEST_PRIORITY = 1
_MAX_AXES = 8
_MAX_TENSORS = 8
_MAX_PARAMETERS = 32
# More than all tensors and parameters have, with room for what the protocol does not know.
_MAX_OBJECTS = 1000


def _nothing_for_null(value: Any) -> Any:
    """Some clients write null for what they leave out."""
    return {} if value is None else value


Parameters = Annotated[dict[str, Any], Field(max_length=_MAX_PARAMETERS), BeforeValidator(_nothing_for_null)]
_Axis = Annotated[StrictInt, Field(ge=0, le=MAX_INT64)]


class RequestInput(BaseModel):
    """One input tensor; `data` is there unless the tensor follows as binary data, and bytes are the text of a list."""

    name: StrictStr
    shape: Annotated[list[_Axis], Field(max_length=_MAX_AXES, fail_fast=True)]
    datatype: StrictStr
    parameters: Parameters = {}
    data: Any = None


class RequestOutput(BaseModel):
    """One output tensor that is asked for."""

    name: StrictStr
    parameters: Parameters = {}


class InferRequest(BaseModel):
    """An inference request; fields that the protocol does not know are ignored."""

    id: StrictStr | None = None
    parameters: Parameters = {}
    inputs: Annotated[list[RequestInput], Field(max_length=_MAX_TENSORS, fail_fast=True)]
    outputs: Annotated[list[RequestOutput], Field(max_length=_MAX_TENSORS, fail_fast=True)] | None = None


class _Parameters(BaseModel):
    model_config = ConfigDict(extra="forbid")


class InputParameters(_Parameters):
    """Parameters of an input tensor."""

    binary_data_size: Annotated[StrictInt, Field(ge=0, le=MAX_INT64)] | None = None
    content_type: Literal["base64"] | None = None


class OutputParameters(_Parameters):
    """Parameters of an output tensor."""

    binary_data: StrictBool | None = None
    classification: Annotated[StrictInt, Field(ge=1)] | None = None


class RequestParameters(_Parameters):
    """Parameters that every inference request may have.

    Attributes:
        timeout: Microseconds; 0: the server's own.
        priority: 1 is the highest, larger numbers are lower, 0 is the server's own choice.
    """

    binary_data_output: StrictBool = False
    timeout: Annotated[StrictInt, Field(ge=0, le=MAX_INT64)] = 0
    priority: Annotated[StrictInt, Field(ge=0, le=MAX_UINT64)] = 0

    @property
    def place(self) -> Priority:
        """The priority as the waiting lines know it: they have two."""
        return "normal" if self.priority <= HIGHEST_PRIORITY else "low"


class NoParameters(_Parameters):
    """Nothing may be said about how a model is loaded: the repository folder and the settings say it all."""


class UnloadParameters(_Parameters):
    """Parameters of an unload request; no model depends on another."""

    unload_dependents: StrictBool = False


def parse_request(content: bytes | bytearray) -> InferRequest:
    """Return the inference request in `content`.

    Raises:
        BadParameterError: It is no JSON, holds a number that is none, has very many objects or texts, or lacks a field.
    """
    # Millions of objects take a second to parse, and a moment to count.
    if (objects := content.count(b"{")) > _MAX_OBJECTS:
        raise BadParameterError(f"the request has {objects} objects ({{); the limit is {_MAX_OBJECTS}: leave some out")
    rest, numbers = take_out_numbers(content)
    request = checked(InferRequest, parse_json(rest), "the request")
    if numbers is not None:
        for tensor in request.inputs:
            tensor.data = numbers if tensor.data is True else tensor.data
    return request


def parse_json(content: bytes | bytearray) -> Any:
    """Return what the JSON text says.

    Raises:
        BadParameterError: It is no JSON; NaN and Infinity are none.
    """
    try:
        return from_json(content, allow_inf_nan=False)
    except ValueError as error:
        raise BadParameterError(f"the body is not the JSON that it should be: {error}") from error


def checked(kind: type[ModelT], values: Any, where: str) -> ModelT:
    """Return `values` as a model of that kind.

    Raises:
        BadParameterError: They are not; the message says the first reason, and `where` it was found.
    """
    try:
        return kind.model_validate(values)
    except ValidationError as error:
        # The input itself may be large, so that it is not repeated.
        first = error.errors(include_input=False, include_url=False)[0]
        path = "".join(f".{part}" if isinstance(part, str) else f"[{part}]" for part in first["loc"])
        reason = first["msg"]
        if first["type"] == "extra_forbidden":
            reason = f"not known here; there are {', '.join(kind.model_fields) or 'none'}"
        elif first["type"] == "model_type":
            reason = "must be an object"
        raise BadParameterError(f"{where}{path:.200}: {reason}") from error

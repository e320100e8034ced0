"""A model as the protocol sees it: its tensors, what may be asked of them, and how they are answered."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Generic

import numpy as np
from numpy.typing import NDArray

from service.api.v2.schema import RequestParameters
from service.api.v2.tensors import DATATYPES
from service.errors import BadParameterError, ServiceError
from service.job import Job
from service.manifest import TensorSpec
from service.pipeline import Pipeline
from service.repository.served import ManifestT, ServedModel
from service.settings import Settings

CLIP, FRAMES = "clip", "frames"


@dataclass(frozen=True)
class Tensor:
    """What is known of a tensor before any request: its axes of no fixed length are -1."""

    name: str
    datatype: str
    shape: tuple[int, ...]

    @classmethod
    def of(cls, spec: TensorSpec) -> Tensor:
        """Return the protocol's description of a tensor of the network."""
        return cls(spec.name, DATATYPES[spec.dtype], tuple(a if isinstance(a, int) else -1 for a in spec.shape))


@dataclass(frozen=True)
class Answered:
    """What a request is answered with.

    Attributes:
        outputs: By name.
        batch_size: Largest batch that a view of the request ran in.
    """

    outputs: dict[str, NDArray[Any]]
    batch_size: int


class ModelInterface(ABC, Generic[ManifestT]):
    """One model as the protocol sees it. A request has one input: `clip`, encoded files, or `frames`, decoded views.

    Attributes:
        clip_parameters: Parameters that a request with `clip` may have.
        outputs: What can be answered.
        outputs_of: The names of those that each input gives.
        class_outputs: The names of those that hold one value a class.
    """

    clip_parameters: ClassVar[type[RequestParameters]]
    outputs: tuple[Tensor, ...]
    outputs_of: ClassVar[Mapping[str, tuple[str, ...]]]
    class_outputs: ClassVar[tuple[str, ...]]

    def __init__(self, model: ServedModel[ManifestT], settings: Settings) -> None:
        self.model: ServedModel[ManifestT] = model
        self.settings = settings
        self.clip = Tensor(CLIP, "BYTES", (-1,))
        self.frames = Tensor.of(model.manifest.inputs[0])

    @property
    def inputs(self) -> tuple[Tensor, ...]:
        """The inputs, of which a request has one."""
        return (self.clip, self.frames)

    def parameters_of(self, name: str) -> type[RequestParameters]:
        """Return the parameters that a request with that input may have."""
        return self.clip_parameters if name == CLIP else RequestParameters

    @abstractmethod
    def check_clips(self, count: int, parameters: RequestParameters) -> None:
        """Check how much `count` encoded files ask for, before they are received.

        Raises:
            BadParameterError: More than a limit.
        """

    @abstractmethod
    def check_frames(self, shape: Sequence[int]) -> None:
        """Check how much frames of that shape ask for, which fits the input's, before they are received.

        Raises:
            BadParameterError: More than a limit.
        """

    @abstractmethod
    async def answer_clips(
        self, pipeline: Pipeline, job: Job[ManifestT], clips: Sequence[int], parameters: RequestParameters
    ) -> Answered:
        """Return the outputs for the encoded files in those file descriptors."""

    @abstractmethod
    async def answer_frames(
        self, pipeline: Pipeline, job: Job[ManifestT], frames: NDArray[np.uint8], parameters: RequestParameters
    ) -> Answered:
        """Return the outputs for frames that are decoded already."""


def check_count(count: int, limit: int, what: str) -> None:
    """Raise BadParameterError unless `count` is between 1 and `limit`."""
    if not 1 <= count <= limit:
        raise BadParameterError(f"{what}: {count}; a request may have 1 to {limit}")


def of_element(error: ServiceError, number: int, count: int) -> ServiceError:
    """Return the error with the number of the element that it is about, where there are several."""
    if count == 1:
        return error
    return type(error)(f"element {number} of `{CLIP}`: {error.detail}", retry_after=error.retry_after)

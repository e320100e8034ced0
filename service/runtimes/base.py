"""What the batcher asks of a runtime."""

from __future__ import annotations

from typing import Any, Literal, Protocol

import numpy as np
from numpy.typing import NDArray

from service.manifest import PrecisionName

OutputName = Literal["logits", "mask"]


class Runtime(Protocol):
    """A loaded network that turns a batch of views into outputs.

    Attributes:
        name: Runtime and device, for people and metrics, for example "onnxruntime-cpu".
        precision: What the network is computed in.
    """

    name: str
    precision: PrecisionName

    def run(self, frames: NDArray[np.uint8], output: OutputName) -> NDArray[Any]:
        """Return one of the network's outputs for uint8 frames (batch, T, H, W, 3) or (batch, H, W, 3). Thread-safe.

        "logits" are float32 (batch, classes), of a segmentation network (batch, classes, H/4, W/4); "mask" is the class
        of each pixel, uint8 (batch, H, W).
        """
        ...

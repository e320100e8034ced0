"""What the batcher asks of a runtime."""

from __future__ import annotations

from typing import Protocol

import numpy as np
from numpy.typing import NDArray


class Runtime(Protocol):
    """A loaded network that turns a batch of views into outputs.

    Attributes:
        name: Runtime and device, for people and metrics, for example "onnxruntime-cpu".
    """

    name: str

    def run(self, frames: NDArray[np.uint8]) -> NDArray[np.float32]:
        """Return logits (batch, classes) of uint8 frames (batch, T, H, W, 3) or (batch, H, W, 3). Thread-safe."""
        ...

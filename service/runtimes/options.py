"""What a runtime on a GPU must know beside the model file."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

ViewShape = tuple[int, ...]


@dataclass(frozen=True)
class GpuOptions:
    """How a model is run on a GPU.

    Attributes:
        batch_sizes: Those that it is prepared for, ascending; other batches are filled up.
        views: The smallest, the usual and the largest shape of a view, (..., height, width, 3).
        memory_bytes: GPU memory that ONNX Runtime takes for the model, or a layer's workspace in TensorRT; 0: no limit.
        cache: Folder for engines.
        roomiest: Shape of a view with as many pixels as any that is run; None: the largest of `views`. Pictures may be
            as high as that one or as wide, not both.
    """

    batch_sizes: tuple[int, ...]
    views: tuple[ViewShape, ViewShape, ViewShape]
    memory_bytes: int
    cache: Path
    roomiest: ViewShape | None = None

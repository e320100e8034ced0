"""Networks with as few blocks as have every kind of layer: same widths, same input, the same calls of torch."""

from __future__ import annotations

import dataclasses
from typing import Any

import torch
from torch.utils._python_dispatch import TorchDispatchMode

from export.graph import input_shape
from models import Network, create_model, model_entry

# Hybrid stages repeat every four blocks; in all others the first block may differ from those after it.
MOST_BLOCKS = 4
# A picture whose maps are no whole number of windows.
SIDES = (608, 928)


class _Calls(TorchDispatchMode):
    """Notes what torch's own operators are called with: shapes of tensors, all else as it is."""

    def __init__(self) -> None:
        super().__init__()
        self.seen: set[tuple[str, Any]] = set()

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        self.seen.add((str(func), _described(args)))
        return func(*args, **(kwargs or {}))


def _described(value: Any) -> Any:
    if isinstance(value, torch.Tensor):
        return tuple(value.shape)
    return tuple(map(_described, value)) if isinstance(value, list | tuple) else repr(value)


def calls(network: Network, name: str) -> set[tuple[str, Any]]:
    """Return the different calls of torch's operators in one forward of a network that is like model `name`."""
    height, width = input_shape(name)[-3:-1]
    if model_entry(name).weights.task == "image_segmentation":
        height, width = SIDES
    view = torch.empty(1, 3, *input_shape(name)[:-3], height, width, device="meta")
    with torch.no_grad(), _Calls() as noted:
        network.to("meta")(view)
    return noted.seen


def shortened(config: Any, blocks: int) -> Any:
    """Return the configuration with at most so many blocks a stage."""
    if hasattr(config, "backbone"):
        return dataclasses.replace(config, backbone=shortened(config.backbone, blocks))
    return dataclasses.replace(config, depths=tuple(min(depth, blocks) for depth in config.depths))


def short_network(name: str) -> Network:
    """Return model `name` with the fewest blocks a stage that call all that the whole network calls."""
    entry = model_entry(name)
    whole = calls(create_model(name), name)
    for blocks in range(1, MOST_BLOCKS + 1):
        config = shortened(entry.config, blocks)
        changed = {field.name: getattr(config, field.name) for field in dataclasses.fields(config)}
        if calls(create_model(name, **changed), name) == whole:
            return create_model(name, **changed)
    raise AssertionError(f"{name}: stages of {MOST_BLOCKS} blocks lack what longer ones have")


def is_as_short(name: str, other: str) -> bool:
    """Whether two models differ in nothing but numbers of classes and of blocks, a stage of one block set apart."""
    a, b = (
        (
            model_entry(each).family,
            dataclasses.replace(shortened(model_entry(each).config, 2), num_classes=1),
            model_entry(each).weights.preprocessing,
            input_shape(each),
        )
        for each in (name, other)
    )
    return a == b

"""The registry: one entry a published (or demo) model, found by name.

A family module describes its variants and registers them when it is imported; `models/__init__.py` imports every
family. Everything that needs "all models" (tests, export, the command line) asks here.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from difflib import get_close_matches
from typing import Any, get_args

import torch
from torch import Tensor, nn

from models.checks import check_known, check_minimum, check_types
from models.weights import Task, Weights, load_labels


class Network(nn.Module):
    """Base of every network: it knows its configuration, its registry name and how to read an official file.

    Attributes:
        config: The frozen dataclass that the network was built from.
        name: Registry name, "" for a network that was built without the registry.
    """

    config: Any
    name: str = ""

    def remap_checkpoint(self, state_dict: dict[str, Tensor]) -> dict[str, Tensor]:
        """Translate the key names of an official checkpoint to this network's; the default is no change."""
        return state_dict


@dataclass(frozen=True)
class ModelEntry:
    """All that is known about one registered name.

    Attributes:
        name: Registry name, architecture plus data set, for example "uniformer_s_16x4_k400".
        family: Name of the module that defines the network, for example "uniformer".
        network: Class that builds the network from `config`.
        config: Frozen dataclass; its fields are the architecture overrides that `create_model` takes.
        weights: Labels, preprocessing, view protocol and published figures of the weights this name stands for.
    """

    name: str
    family: str
    network: Callable[[Any], Network]
    config: Any
    weights: Weights


_ENTRIES: dict[str, ModelEntry] = {}


def register_model(entry: ModelEntry) -> None:
    """Add an entry to the registry.

    Raises:
        ValueError: The name is taken.
    """
    if entry.name in _ENTRIES:
        raise ValueError(
            f"model {entry.name!r} is registered twice, by {_ENTRIES[entry.name].family} and {entry.family}"
        )
    _ENTRIES[entry.name] = entry


def register_variant(name: str, network: type[Network], config: Any, weights: Weights) -> None:
    """Register a network whose head has one output for each label of its weights; the family is its module's name."""
    config = dataclasses.replace(config, num_classes=len(load_labels(weights.labels)))
    register_model(ModelEntry(name, network.__module__.rpartition(".")[2], network, config, weights))


def list_models(family: str | None = None, task: Task | None = None) -> list[str]:
    """Return the registered names, sorted; optionally only those of one family or one task.

    Raises:
        ValueError: An unknown family or task; the message lists the known ones.
    """
    if family is not None:
        check_known("family", family, sorted({entry.family for entry in _ENTRIES.values()}))
    if task is not None:
        check_known("task", task, get_args(Task))
    return sorted(
        name
        for name, entry in _ENTRIES.items()
        if family in (None, entry.family) and task in (None, entry.weights.task)
    )


def model_entry(name: str) -> ModelEntry:
    """Return the entry called `name`.

    Raises:
        ValueError: No such name; the message proposes the closest ones.
    """
    if name not in _ENTRIES:
        close = get_close_matches(name, _ENTRIES, n=3, cutoff=0.5)
        hint = f"did you mean {' or '.join(close)}?" if close else "`clipserve models` lists them all"
        raise ValueError(f"unknown model {name!r}; {hint}")
    return _ENTRIES[name]


def create_model(name: str, num_classes: int | None = None, **architecture_overrides: Any) -> Network:
    """Build the network called `name` with fresh weights, in eval mode and float32.

    Args:
        name: A registered name.
        num_classes: Outputs of the head; None takes the number of labels of the model's data set.
        **architecture_overrides: Values for fields of the family's config, for example `num_frames=8`.

    Raises:
        ValueError: Unknown name, or an override that the network refuses.
        TypeError: An override that is no field of the family's config.
    """
    entry = model_entry(name)
    if num_classes is not None:
        architecture_overrides["num_classes"] = num_classes
    known = {field.name for field in dataclasses.fields(entry.config)}
    unknown = sorted(set(architecture_overrides) - known)
    if unknown:
        raise TypeError(f"{name} has no setting {', '.join(unknown)}; it takes {', '.join(sorted(known))}")
    config = dataclasses.replace(entry.config, **architecture_overrides)
    check_types(config)
    check_minimum(config, 1, "num_classes")
    network = entry.network(config)
    network.name = name
    return network.float().eval()


def fitting_models(names: Iterable[str], official: dict[str, Tensor]) -> list[str]:
    """Return those of the names whose network takes the official state dict `official` as it is.

    Networks are built without memory for their weights (torch's meta device), so this is cheap enough for an error
    message. The number of classes is not held against a name.
    """
    fitting = []
    checked: dict[Any, bool] = {}
    for name in names:
        entry = _ENTRIES[name]
        key = dataclasses.replace(entry.config, num_classes=1)
        if key not in checked:
            with torch.device("meta"):
                network = entry.network(entry.config)
            checked[key] = _fits(network, official)
        if checked[key]:
            fitting.append(name)
    return fitting


def _fits(network: Network, official: dict[str, Tensor]) -> bool:
    wanted = network.state_dict()
    try:
        offered = network.remap_checkpoint(dict(official))
    except (KeyError, ValueError, RuntimeError):
        return False
    if wanted.keys() != offered.keys():
        return False
    classes = network.config.num_classes
    return all(
        tensor.shape == offered[key].shape
        or (tensor.ndim > 0 and tensor.shape[0] == classes and tensor.shape[1:] == offered[key].shape[1:])
        for key, tensor in wanted.items()
    )

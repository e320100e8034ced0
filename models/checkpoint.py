"""Read official checkpoint files and load them strictly."""

from __future__ import annotations

import argparse
import re
import zipfile
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

from models.figures import load_figures
from models.registry import Network, fitting_models, list_models, model_entry
from models.weights import load_labels

# Where training programs put the state dict, in the order of trust: mmsegmentation and timm, PySlowFast, DeiT style.
WRAPPER_KEYS = ("state_dict", "model_state", "model", "state_dict_ema")
DATA_PARALLEL_PREFIX = "module."
# How files of torch.save begin: a zip archive today, a pickle before torch 1.6.
_TORCH_SAVE = (b"PK\x03\x04", b"\x80")
# How torch names what it does not load.
_UNSAFE = re.compile(r"GLOBAL (\S+)")
# Bytes that are read at once of what is only held to its checksum.
_CHUNK = 1 << 20
# Entries that are named of each kind that does not fit: a file of another network has hundreds.
_EXAMPLES = 5
# Share that a network's parameters may differ by from the numbers in a file that it takes, which has buffers as well.
_OF_LIKE_SIZE = 0.05


class CheckpointError(Exception):
    """A checkpoint file cannot be used: unreadable, unsafe, or made for another network."""


def read_checkpoint(path: str | Path) -> dict[str, Tensor]:
    """Return the state dict in an official file, whatever dictionary it is wrapped in.

    Args:
        path: A .safetensors file, or a file of torch.save (.pth, .pyth, .pt). The latter is a pickle and is read with
            `weights_only=True`; argparse.Namespace, which image trainers save beside the weights, is the one class
            allowed besides tensors and plain containers, because building one runs no code.

    Returns:
        Dense tensors by name, without the `module.` of DataParallel, of the dtypes that the file has.

    Raises:
        CheckpointError: Missing, damaged or unsafe file, no state dict in it, an entry that is sparse or quantised, or
            two of one name.
    """
    path = Path(path)
    if not path.is_file():
        raise CheckpointError(f"checkpoint {path} does not exist")
    content = _load_safetensors(path) if path.suffix.lower() == ".safetensors" else _load_pickle(path)
    state = _without_prefix(_unwrap(content, path), path)
    _check_dense(state, path)
    return state


def _load_safetensors(path: Path) -> dict[str, Tensor]:
    try:
        return load_file(path)
    except SafetensorError as error:
        raise CheckpointError(f"{path} is not a safetensors file: {error}") from error


def _load_pickle(path: Path) -> object:
    try:
        with path.open("rb") as file:
            is_of_torch = file.read(4).startswith(_TORCH_SAVE)
        if is_of_torch:
            with torch.serialization.safe_globals([argparse.Namespace]):
                content = torch.load(path, map_location="cpu", weights_only=True)
            _check_sums(path)
            return content
    except OSError as error:
        raise CheckpointError(f"{path} cannot be read: {error.strerror or error}") from error
    except CheckpointError:
        raise
    except Exception as error:
        # The unpickler raises whatever a damaged file leads it to. torch's words stay out, in a traceback too: they
        # propose to load the file with everything that it would run.
        raise CheckpointError(f"{path} {_refusal(str(error))}") from None
    raise CheckpointError(
        f"{path} is no checkpoint: files of torch.save (.pth, .pyth, .pt) are taken, and .safetensors under that name"
    )


def _check_sums(path: Path) -> None:
    """Hold the parts of a zip archive to their checksums, which torch.load does not look at.

    Raises:
        CheckpointError: A part differs from its checksum.
    """
    if not zipfile.is_zipfile(path):
        return
    with zipfile.ZipFile(path) as archive:
        # torch.save writes 0 where it was told to calculate none.
        for part in (part for part in archive.infolist() if part.CRC):
            try:
                with archive.open(part) as file:
                    while file.read(_CHUNK):
                        pass
            except zipfile.BadZipFile:
                raise CheckpointError(
                    f"{path} is damaged: {part.filename} in it does not have its checksum; fetch the file again"
                ) from None


def _refusal(words: str) -> str:
    """Return what is wrong with a file of torch.save, by torch's words."""
    unsafe = _UNSAFE.search(words)
    if unsafe is None:
        return "is damaged, or holds something else than tensors in plain containers"
    return (
        f"holds more than tensors ({unsafe[1]}) and is not loaded: a pickle can run any code. "
        "Take the state dict out of it in a place you trust and save that alone"
    )


def _unwrap(content: object, path: Path) -> dict[Any, Tensor]:
    for _ in WRAPPER_KEYS:
        if not isinstance(content, dict):
            break
        inner = next((content[key] for key in WRAPPER_KEYS if isinstance(content.get(key), dict)), None)
        if inner is None:
            break
        content = inner
    if not isinstance(content, dict) or not content or not all(isinstance(value, Tensor) for value in content.values()):
        raise CheckpointError(
            f"{path} holds no state dict: looked for tensors by name at the top and under {', '.join(WRAPPER_KEYS)}"
        )
    return content


def _without_prefix(content: dict[Any, Tensor], path: Path) -> dict[str, Tensor]:
    state: dict[str, Tensor] = {}
    for key, tensor in content.items():
        name = str(key).removeprefix(DATA_PARALLEL_PREFIX)
        if name in state:
            raise CheckpointError(
                f"{path} holds {name} twice, with and without {DATA_PARALLEL_PREFIX} before it, and which is meant "
                "cannot be told: save one of them alone"
            )
        state[name] = tensor
    return state


def _check_dense(state: dict[str, Tensor], path: Path) -> None:
    """Refuse entries that are no plain arrays of numbers, with which hardly anything can be calculated.

    Raises:
        CheckpointError: An entry is sparse or quantised; the message names the first.
    """
    for key, tensor in state.items():
        if tensor.is_quantized or tensor.layout is not torch.strided:
            form, remedy = ("quantised", "dequantize") if tensor.is_quantized else ("sparse", "to_dense")
            raise CheckpointError(
                f"{path}: {key} is {form} ({tensor.dtype}), and networks take dense tensors: save the weights as they "
                f"were trained, or each such entry's .{remedy}()"
            )


def load_checkpoint(model: Network, path: str | Path) -> None:
    """Load an official checkpoint file, or a .safetensors file, into `model`, strictly.

    Raises:
        CheckpointError: The file is unusable (see `read_checkpoint`), an entry holds another kind of numbers than the
            network's, a value in it is not finite in the network's dtype, or its entries do not match the network's.
            In the last case the message counts the missing, unexpected and wrongly shaped entries and names
            some of each, says so when only the number of classes differs, and names the variants of the same family,
            and the networks of others, that would take the file.
    """
    official = read_checkpoint(path)
    wanted = model.state_dict()
    label = model.name or type(model).__name__
    try:
        offered = model.remap_checkpoint(dict(official))
    except (KeyError, ValueError, RuntimeError) as error:
        raise CheckpointError(f"{path} was not made for {label}: {error}.{_hint(model, official)}") from error
    missing = [key for key in wanted if key not in offered]
    unexpected = [key for key in offered if key not in wanted]
    misshapen = [key for key in wanted if key in offered and wanted[key].shape != offered[key].shape]
    if not (missing or unexpected or misshapen):
        state = _converted(offered, wanted, path)
        _check_finite(state, path)
        model.load_state_dict(state, strict=True)
        return
    if not missing and not unexpected and (classes := _other_class_count(model, wanted, offered, misshapen)):
        raise CheckpointError(
            f"the head in {path} has {classes} classes and {_asked_for(model, label)}: give `clipserve "
            f"export` a file with {classes} names (--labels FILE), or build the network with num_classes={classes}"
        )
    kinds = {
        "missing": [f"{key} {tuple(wanted[key].shape)}" for key in missing],
        "unexpected": [f"{key} {tuple(offered[key].shape)}" for key in unexpected],
        "wrong shape": [
            f"{key} is {tuple(offered[key].shape)}, the network has {tuple(wanted[key].shape)}" for key in misshapen
        ],
    }
    counts = ", ".join(f"{len(entries)} {kind}" for kind, entries in kinds.items() if entries)
    hint = _hint(model, official)
    first = f"{path} does not fit {label} ({counts} of {len(wanted)} entries){':' if hint else ''}{hint}"
    raise CheckpointError("\n".join([first, *(line for kind in kinds for line in _some(kind, kinds[kind]))]))


def _asked_for(model: Network, label: str) -> str:
    """Return how many classes the network has, and who said so."""
    classes = model.config.num_classes
    if not model.name or classes == len(load_labels(model_entry(model.name).weights.labels)):
        return f"{label} has {classes}"
    return f"{label} was built for {classes} (as many as --labels FILE names, or num_classes)"


def _some(kind: str, entries: list[str]) -> list[str]:
    """Return a line for each of the first entries of a kind, and one for the rest."""
    lines = [f"  {kind}: {entry}" for entry in entries[:_EXAMPLES]]
    return lines + ([f"  {kind}: {len(entries) - _EXAMPLES} more"] if len(entries) > _EXAMPLES else [])


def _converted(offered: dict[str, Tensor], wanted: dict[str, Tensor], path: str | Path) -> dict[str, Tensor]:
    """Return the offered entries in the network's dtypes: float16 as float32, but no codes of int8 as weights.

    Raises:
        CheckpointError: An entry holds another kind of numbers than the network's; the message names the first.
    """
    for key, tensor in offered.items():
        given, own = tensor.dtype, wanted[key].dtype
        # Averaged weights have these counters as fractions, and nothing reads them in an evaluation.
        if _kind(given) != _kind(own) and not key.endswith(".num_batches_tracked"):
            raise CheckpointError(
                f"{path}: {key} holds {_kind(given)} values ({given}), and the network has {_kind(own)} ones ({own}): "
                "save the weights as they were trained, before they were quantised or converted"
            )
    return {key: tensor.to(wanted[key].dtype) for key, tensor in offered.items()}


def _kind(dtype: torch.dtype) -> str:
    if dtype.is_complex:
        return "complex"
    if dtype.is_floating_point:
        return "floating-point"
    return "boolean" if dtype is torch.bool else "integer"


def _check_finite(state: dict[str, Tensor], path: str | Path) -> None:
    """Refuse weights with which every answer would be nan.

    Raises:
        CheckpointError: A value is nan or infinite; the message names the first entry that has one.
    """
    for key, tensor in state.items():
        if count := int((~torch.isfinite(tensor)).sum()):
            raise CheckpointError(
                f"{path}: {key} has {count} of {tensor.numel()} values that are nan or infinite in {tensor.dtype}: "
                "training diverged, or the file is damaged; take another checkpoint"
            )


def _other_class_count(
    model: Network, wanted: dict[str, Tensor], offered: dict[str, Tensor], misshapen: list[str]
) -> int | None:
    """Return the checkpoint's class count if that is all that differs."""
    counts = {offered[key].shape[0] for key in misshapen if offered[key].ndim}
    only_rows = all(
        offered[key].ndim
        and wanted[key].shape[0] == model.config.num_classes
        and wanted[key].shape[1:] == offered[key].shape[1:]
        for key in misshapen
    )
    return counts.pop() if only_rows and len(counts) == 1 else None


def _hint(model: Network, official: dict[str, Tensor]) -> str:
    """Return which registered networks would take the file; empty: none, or the model is not registered."""
    if not model.name:
        return ""
    family = model_entry(model.name).family
    names = [*list_models(family=family), *_of_like_size(family, official)]
    fitting = [name for name in fitting_models(names, official) if name != model.name]
    return f" it would fit {', '.join(fitting)}" if fitting else ""


def _of_like_size(family: str, official: dict[str, Tensor]) -> list[str]:
    """Return the networks of the other families that are about as large as the file; all would take many seconds."""
    size = sum(tensor.numel() for tensor in official.values())
    return [
        name
        for name, figures in load_figures().items()
        if abs(figures.params - size) <= _OF_LIKE_SIZE * size and model_entry(name).family != family
    ]

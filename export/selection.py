"""Which models a command means, and which file holds the weights of each."""

from __future__ import annotations

from pathlib import Path

from export.errors import ExportError
from export.names import is_pattern, is_servable, matching
from models import list_models, model_entry


def matching_models(patterns: list[str]) -> list[str]:
    """Return the names that are meant, each once: names as they are, and for a pattern all that match and are served.

    Raises:
        ExportError: Nothing that is served matches a pattern, or a name is unknown.
    """
    names: list[str] = []
    for pattern in patterns:
        names += [name for name in _matching(pattern) if name not in names]
    return names


def _matching(pattern: str) -> list[str]:
    try:
        found = matching(pattern, list_models()) if is_pattern(pattern) else [model_entry(pattern).name]
    except ValueError as error:
        raise ExportError(str(error)) from error
    served = [name for name in found if is_servable(name)]
    # One that is meant by its own name is refused when its turn comes.
    if served or not is_pattern(pattern):
        return served or found
    tasks = " or ".join(sorted({model_entry(name).weights.task for name in found}))
    raise ExportError(
        f"all that {pattern!r} matches is for {tasks}, which the server does not answer yet: {', '.join(found)}"
    )


def find_checkpoint(name: str, given: Path | None, alone: bool) -> Path | None:
    """Return the file with the weights of a model; None if nothing was given.

    Args:
        name: The model's.
        given: A file, or a folder with NAME.safetensors or the official file of each model.
        alone: Whether it is the only model; one file cannot be the checkpoint of several.

    Raises:
        ExportError: The folder that was given holds none, what was given is not there, or is one file for several
            models.
    """
    if given is None:
        return None
    if not given.is_dir():
        if not given.exists():
            raise ExportError(f"{given} does not exist (--checkpoint); `clipserve models {name}` says where to get it")
        if not alone:
            raise ExportError(f"{given} is one checkpoint for several models: give a folder with one for each")
        return given
    official = model_entry(name).weights.checkpoint
    wanted = [f"{name}.safetensors", *([official] if official else [])]
    for file in wanted:
        if (given / file).is_file():
            return given / file
    raise ExportError(f"{given} holds no checkpoint of {name}; looked for {' and '.join(wanted)}")

"""Registered names: which of them can be exported, and which a pattern means. Importing this needs torch alone."""

from __future__ import annotations

from collections.abc import Iterable
from fnmatch import fnmatchcase

from models import model_entry

SERVED_TASKS = ("video_classification", "image_classification", "image_segmentation")


def is_servable(name: str) -> bool:
    """Return whether the server answers the task of a registered model.

    Raises:
        ValueError: Unknown name.
    """
    return model_entry(name).weights.task in SERVED_TASKS


def is_pattern(text: str) -> bool:
    """Return whether a text is a pattern ('uniformer_*_k400') and no name."""
    return bool(set(text) & set("*?["))


def matching(pattern: str, names: Iterable[str]) -> list[str]:
    """Return the names that match a pattern.

    Raises:
        ValueError: None does.
    """
    found = [name for name in names if fnmatchcase(name, pattern)]
    if not found:
        raise ValueError(f"no model matches {pattern!r}; `clipserve models` lists them all")
    return found

"""What the registry knows, as text for people: the table of all models, and everything about one."""

from __future__ import annotations

import os
from dataclasses import fields
from pathlib import Path

from export.names import is_servable, matching
from models import list_models, load_labels, model_entry
from models.figures import load_figures
from models.registry import ModelEntry
from service.manifest import MANIFEST_FILE, parse_version

HEADER = ("name", "family", "task", "input", "params M", "GMACs", "published", "artefact")


def model_table(repository: Path, pattern: str = "*") -> str:
    """Return one line a registered model that matches; `repository` is where exported artefacts are looked for.

    GMACs are those of one view; the published accuracy is its authors', nothing here measured it.

    Raises:
        ValueError: No model matches.
        OSError: A folder of the repository cannot be read.
    """
    rows = [HEADER, *(_row(name, repository) for name in matching(pattern, list_models()))]
    widths = [max(len(row[column]) for row in rows) for column in range(len(HEADER))]
    return "\n".join(
        "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows
    )


def _row(name: str, repository: Path) -> tuple[str, ...]:
    entry = model_entry(name)
    figures = load_figures()[name]
    return (
        name,
        entry.family,
        entry.weights.task,
        _input(entry),
        f"{figures.params / 1e6:.1f}",
        f"{figures.gmacs:.2f}",
        _accuracy(entry),
        _artefact(name, repository),
    )


def _artefact(name: str, repository: Path) -> str:
    return ", ".join(_versions(name, repository)) or ("-" if is_servable(name) else "not served yet")


def _input(entry: ModelEntry) -> str:
    height, width = entry.weights.preprocessing.input_size
    frames = f"{entry.weights.sampling.num_frames}x" if entry.weights.task == "video_classification" else ""
    return f"{frames}{height}x{width}"


def _accuracy(entry: ModelEntry) -> str:
    published = entry.weights.published
    if published is None or published.top1 is None:
        return "-"
    return f"{published.top1} {published.metric}"


def _versions(name: str, repository: Path) -> list[str]:
    folder = repository / name
    # Not by a pattern, which passes over what cannot be read.
    numbers = map(parse_version, os.listdir(folder)) if folder.exists() else ()
    return [str(number) for number in sorted(filter(None, numbers)) if (folder / str(number) / MANIFEST_FILE).exists()]


def model_description(name: str, repository: Path) -> str:
    """Return everything about one model, a fact a line.

    Raises:
        ValueError: Unknown name.
        OSError: The model's folder in the repository cannot be read.
    """
    entry = model_entry(name)
    weights, figures = entry.weights, load_figures()[name]
    labels = load_labels(weights.labels)
    published = weights.published
    facts = {
        "name": name,
        "family": f"{entry.family} (models/{entry.family}.py)",
        "task": weights.task,
        "input": _input(entry),
        "parameters": f"{figures.params:,}",
        "GMACs a view": f"{figures.gmacs:g}",
        "data set": weights.dataset,
        "classes": f"{len(labels)} ({weights.labels}: {labels[0]}, {labels[1]}, ... {labels[-1]})",
        "scores": "independent sigmoids" if weights.multi_label else "softmax",
        "preprocessing": _assignments(weights.preprocessing),
        "sampling": _assignments(weights.sampling),
        "views": _assignments(weights.views),
        "published": "-" if published is None else _assignments(published),
        "checkpoint": weights.checkpoint or "official file name unknown",
        "to be had from": weights.origin,
        "licence": weights.licence,
        "architecture": _assignments(entry.config),
        "artefact versions": ", ".join(_versions(name, repository)) or _none_in(repository, name),
    }
    width = max(map(len, facts))
    return "\n".join(f"{key.ljust(width)}  {value}" for key, value in facts.items())


def _none_in(repository: Path, name: str) -> str:
    return f"none in {repository}" if is_servable(name) else "none: the server does not answer this task yet"


def _assignments(part: object) -> str:
    values = {field.name: getattr(part, field.name) for field in fields(part)}  # type: ignore[arg-type]
    return ", ".join(f"{key}={value}" for key, value in values.items())

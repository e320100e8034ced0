"""The table at the end of `clipserve export`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from service.manifest import Artefact, PrecisionName

HEADER = (
    "model",
    "precision",
    "MB",
    "relative error",
    "top-1 agreement",
    "measured on",
    "accuracy",
    "torch",
    "seconds",
)


def table(rows: Sequence[tuple[str, ...]], failures: Mapping[str, str], seconds: float) -> str:
    """Return rows of cells as text, under HEADER; below them what failed, with their reasons, and the time."""
    rows = [HEADER, *rows]
    widths = [max(len(row[column]) for row in rows) for column in range(len(HEADER))]
    widths[0] = max([widths[0], *map(len, failures)])
    lines = ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows]
    lines += [f"{name.ljust(widths[0])}  not exported: {reason}" for name, reason in failures.items()]
    lines.append(f"{seconds:.0f} seconds in all; those of a row are for writing and verifying its file")
    return "\n".join(lines)


def artefact_rows(artefact: Artefact, seconds: Mapping[PrecisionName, float]) -> list[tuple[str, ...]]:
    """Return a row for each precision; one without `seconds` was not made now.

    What was measured on decoded clips counts, if anything was; else what was measured on made-up views.
    """
    manifest, rows = artefact.manifest, []
    for precision, entry in manifest.precisions.items():
        clips, figures = entry.on_clips, entry.on_clips or entry.verification
        made_up = entry.verification.inputs * len(entry.verification.input_sizes)
        measured = f"{clips.clips} clips" if clips else f"{made_up} made-up views"
        if entry.verification.arithmetic not in (None, precision):
            measured += f" in {entry.verification.arithmetic}"
        accuracies = (clips.accuracy, clips.torch_accuracy) if clips else (None, None)
        rows.append(
            (
                f"{manifest.name}/{manifest.version}",
                precision,
                f"{artefact.model_file(precision).stat().st_size / 1e6:.1f}",
                f"{figures.relative_error:.1e}",
                f"{figures.top1_agreement:.1%}",
                measured,
                *("-" if accuracy is None else f"{accuracy:.1%}" for accuracy in accuracies),
                f"{seconds[precision]:.0f}" if precision in seconds else "kept",
            )
        )
    return rows

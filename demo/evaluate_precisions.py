"""What each precision costs in accuracy: export the demo's classifiers in all of them and measure on generated clips.

`python -m demo.evaluate_precisions [NAME...]`. The exporter measures every file on its own runtime, in another process,
on clips that it was not calibrated with, and writes the figures into the manifests; this prints them as a table.
"""

from __future__ import annotations

import argparse
import logging
import shutil
from pathlib import Path
from typing import get_args

from demo.labelled import LABELS_FILE, SEED, write_clips
from demo.recipes import RECIPES
from demo.training import DATA_FOLDER, WEIGHTS_FOLDER
from export.artefact import export_model, make_order
from models import model_entry
from service.manifest import PrecisionName, read_artefact

REPOSITORY = DATA_FOLDER / "precisions"
COLUMNS = (
    "network",
    "precision",
    "file, MB",
    "verified by",
    "relative error",
    "top-1 as torch fp32",
    "right",
    "layers in fp32",
)


def labelled_clips(labels: str, count: int) -> Path:
    """Return a folder of `count` clips with their labels; made once, kept."""
    folder = DATA_FOLDER / f"{labels}_{SEED}_{count}"
    if not (folder / LABELS_FILE).is_file():
        write_clips(folder, count, labels=labels)
    return folder


def export_all_precisions(name: str, clips: Path) -> Path:
    """Return the artefact of network `name` with every precision."""
    shutil.rmtree(REPOSITORY / name, ignore_errors=True)
    checkpoint = WEIGHTS_FOLDER / f"{name}.safetensors"
    order = make_order(name, checkpoint, precisions=get_args(PrecisionName), calibration=clips)
    return export_model(order, REPOSITORY, print).folder


def table_row(cells: tuple[str, ...]) -> str:
    """Return a line of a Markdown table."""
    return f"| {' | '.join(cells)} |"


def rows(folder: Path) -> list[str]:
    """Return a line of the table for each precision of an artefact."""
    artefact = read_artefact(folder)
    lines = []
    for precision, entry in artefact.manifest.precisions.items():
        found = entry.on_clips
        assert found is not None
        assert found.accuracy is not None
        cells = (
            artefact.manifest.name,
            precision,
            f"{artefact.model_file(precision).stat().st_size / 1e6:.1f}",
            entry.runtime,
            f"{found.relative_error:.1e}",
            f"{found.top1_agreement:.1%}",
            f"{found.accuracy:.1%}",
            str(len(entry.float32_layers)),
        )
        lines.append(table_row(cells))
    return lines


def main() -> None:
    """Export, measure, print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", metavar="NAME", nargs="*", help=f"of {', '.join(RECIPES)}; none means all")
    parser.add_argument("--clips", type=int, default=1000, help="clips to measure on; as many calibrate (%(default)s)")
    arguments = parser.parse_args()
    # The exporter reports at length on operators of packages that are not installed.
    logging.getLogger("torch.onnx").setLevel(logging.ERROR)
    table = [table_row(COLUMNS), table_row(("---",) * len(COLUMNS))]
    for name in arguments.names or RECIPES:
        clips = labelled_clips(model_entry(name).weights.labels, 2 * arguments.clips)
        table += rows(export_all_precisions(name, clips))
    print("\n".join(table))


if __name__ == "__main__":
    main()

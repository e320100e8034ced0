"""What each precision costs in accuracy: export the demo's classifiers in all of them and measure on generated clips.

`python -m demo.evaluate_precisions [NAME...]`. The exporter measures every file on its own runtime, in another process,
on clips that it was not calibrated with, and writes the figures into the manifests; this prints them as a table, then
names what falls short of the aims below, and ends with status 1 if anything does.
"""

from __future__ import annotations

import argparse
import logging
import shutil
from pathlib import Path
from typing import get_args

from demo.arguments import one_of
from demo.labelled import SEED, kept_clips
from demo.recipes import RECIPES
from demo.training import DATA_FOLDER, WEIGHTS_FOLDER
from export.artefact import export_model, make_request
from export.errors import ExportError
from models import model_entry
from service.manifest import Artefact, Manifest, PrecisionName, read_artefact

REPOSITORY = DATA_FOLDER / "precisions"
# Share of the first classes of float32 that a trained network must keep.
LEAST_AGREEMENT: dict[PrecisionName, float] = {"fp16": 0.995, "bf16": 0.995, "int8": 0.99}
# Share of the clips that int8 may be right about fewer than float32 must stay below.
LOSS_TOO_LARGE = 0.005
COLUMNS = (
    "network",
    "precision",
    "file, MB",
    "verified by",
    "relative error",
    "top-1 as torch fp32",
    "right",
    "layers not in int8",
)


def labelled_clips(labels: str, count: int) -> Path:
    """Return a folder of `count` clips with their labels, which no training sees."""
    return kept_clips(DATA_FOLDER, count, SEED, labels)


def export_all_precisions(name: str, clips: Path) -> Path:
    """Return the artefact of network `name` with every precision."""
    shutil.rmtree(REPOSITORY / name, ignore_errors=True)
    checkpoint = WEIGHTS_FOLDER / f"{name}.safetensors"
    request = make_request(name, checkpoint, precisions=get_args(PrecisionName), calibration=clips)
    return export_model(request, REPOSITORY, print).folder


def table_row(cells: tuple[str, ...]) -> str:
    """Return a line of a Markdown table."""
    return f"| {' | '.join(cells)} |"


def rows(artefact: Artefact) -> list[str]:
    """Return a line of the table for each precision of an artefact."""
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


def shortfalls(manifest: Manifest) -> list[str]:
    """Return a line for each precision, and each aim, that the figures of a manifest fall short of."""
    lines = []
    for precision, entry in manifest.precisions.items():
        found, what = entry.on_clips, f"{manifest.name} {precision}"
        assert found is not None
        least = LEAST_AGREEMENT.get(precision, 1.0)
        if found.top1_agreement < least:
            kept = f"{found.top1_agreement:.2%}"
            lines.append(f"{what} keeps {kept} of the first classes of float32; the aim is {least:.1%}")
        assert found.accuracy is not None
        assert found.torch_accuracy is not None
        # In clips: what their shares lack of one another is not exact.
        lost = round((found.torch_accuracy - found.accuracy) * found.clips)
        if precision == "int8" and lost / found.clips >= LOSS_TOO_LARGE:
            aim = f"the aim is less than {LOSS_TOO_LARGE:.1%}"
            lines.append(f"{what} is right about {lost} of {found.clips} clips less; {aim}")
    return lines


def main() -> int:
    """Export, measure, print the table and what falls short; 1 if anything does."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "names", type=one_of(RECIPES), metavar="NAME", nargs="*", help=f"of {', '.join(RECIPES)}; none means all"
    )
    parser.add_argument("--clips", type=int, default=1000, help="clips to measure on; as many calibrate (%(default)s)")
    arguments = parser.parse_args()
    # The exporter reports at length on operators of packages that are not installed.
    logging.getLogger("torch.onnx").setLevel(logging.ERROR)
    table = [table_row(COLUMNS), table_row(("---",) * len(COLUMNS))]
    missed = []
    for name in arguments.names or RECIPES:
        clips = labelled_clips(model_entry(name).weights.labels, 2 * arguments.clips)
        try:
            artefact = read_artefact(export_all_precisions(name, clips))
        except ExportError as error:
            # It may be an aim that is missed by so much that no file is left to measure.
            missed.append(f"{name} is not exported: {error}")
            continue
        table += rows(artefact)
        missed += shortfalls(artefact.manifest)
    print("\n".join(table))
    print("\n".join(missed) or "every network reaches the aims")
    return 1 if missed else 0


if __name__ == "__main__":
    raise SystemExit(main())

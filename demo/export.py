"""Export the demo's networks into model_repository/ (`python -m demo.export`), classifiers with their accuracy.

They are measured on generated, labelled clips that no network was trained on: the manifests say how many first classes
were right, of the file and of torch.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path
from tempfile import TemporaryDirectory

from demo.evaluate_precisions import labelled_clips
from demo.recipes import RECIPES
from demo.shapes import LABEL_SETS
from demo.training import WEIGHTS_FOLDER
from models import model_entry
from service.cli import main as clipserve

REPOSITORY = Path(__file__).parents[1] / "model_repository"
# An export measures on every other one.
CLIPS = 400


def export_all(repository: Path) -> int:
    """Export all networks that have weights; stop with the exporter's status if that is not 0."""
    options = ["--checkpoint", str(WEIGHTS_FOLDER), "--out", str(repository)]
    for labels in LABEL_SETS:
        names = [name for name in RECIPES if model_entry(name).weights.labels == labels]
        calibration = ["--calibration", str(labelled_clips(labels, CLIPS))]
        if status := clipserve(["export", *names, *options, *calibration]):
            return status
    others = {file.stem for file in WEIGHTS_FOLDER.glob("*.safetensors")} - set(RECIPES)
    return clipserve(["export", *sorted(others), *options])


def put_in_place(made: Path, place: Path) -> None:
    """Move a new folder to where the old one stands, if there is one; put that back if interrupted or unable."""
    aside = made.with_name(f"{made.name}.old")
    try:
        if place.exists():
            place.rename(aside)
        made.rename(place)
    except BaseException:
        if aside.exists() and not place.exists():
            aside.rename(place)
        raise


def main(arguments: Sequence[str] | None = None) -> int:
    """Export all, and only then replace what the repository holds of them; 1 if one could not be exported."""
    argparse.ArgumentParser(description=f"{__doc__} Replaces theirs in {REPOSITORY}.").parse_args(arguments)
    REPOSITORY.mkdir(exist_ok=True)
    # Beside the repository: a rename does not lead from one file system to another.
    with TemporaryDirectory(prefix=".export-demo-", dir=REPOSITORY.parent) as folder:
        made = Path(folder) / REPOSITORY.name
        if status := export_all(made):
            print(f"{REPOSITORY} is as it was")
            return status
        for home in sorted(made.iterdir()):
            put_in_place(home, REPOSITORY / home.name)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())

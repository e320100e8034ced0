"""Export the demo's networks into model_repository/ (`python -m demo.export`), classifiers with their accuracy.

They are measured on generated, labelled clips that no network was trained on: the manifests say how many first classes
were right, of the file and of torch.
"""

from __future__ import annotations

from demo.evaluate_precisions import labelled_clips
from demo.recipes import RECIPES
from demo.shapes import LABEL_SETS
from demo.training import WEIGHTS_FOLDER
from models import model_entry
from service.cli import main as clipserve

# An export measures on every other one.
CLIPS = 400


def main() -> int:
    """Export all networks that have weights; 1 if one could not be exported."""
    status = 0
    for labels in LABEL_SETS:
        names = [name for name in RECIPES if model_entry(name).weights.labels == labels]
        status |= clipserve(["export", *names, "--calibration", str(labelled_clips(labels, CLIPS))])
    others = {file.stem for file in WEIGHTS_FOLDER.glob("*.safetensors")} - set(RECIPES)
    return status | clipserve(["export", *sorted(others)])


if __name__ == "__main__":
    raise SystemExit(main())

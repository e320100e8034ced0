"""Write generated clips with their labels into a folder (`python -m demo.labelled FOLDER`), to calibrate with."""

from __future__ import annotations

import argparse
import json
from pathlib import Path

from demo.clips import generate_file

# Training, its held-out set and the evaluation over HTTP use others (demo/train.py, demo/evaluate.py).
SEED = 3


def write_clips(folder: Path, count: int, seed: int = SEED) -> None:
    """Write `count` clips and labels.json, {file name: label}, into `folder`, which is made if missing."""
    folder.mkdir(parents=True, exist_ok=True)
    labels = {}
    for number in range(count):
        content, labels[f"{number:05}"] = generate_file(seed, number)
        (folder / f"{number:05}").write_bytes(content)
    (folder / "labels.json").write_text(json.dumps(labels, indent=2) + "\n", encoding="utf-8")


def main() -> None:
    """Write the clips."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--clips", type=int, default=440, help="clips to write (%(default)s)")
    arguments = parser.parse_args()
    write_clips(arguments.folder, arguments.clips)


if __name__ == "__main__":
    main()

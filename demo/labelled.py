"""Write generated clips with their labels into a folder (`python -m demo.labelled FOLDER`), to calibrate with."""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from pathlib import Path

from tqdm import tqdm

from demo import clips, shapes
from demo.clips import generate_file
from demo.shapes import LABEL_SETS
from demo.storage import replacing, source_digest

# Training, its held-out set and the evaluation over HTTP use others (demo/training.py, demo/evaluate.py).
SEED = 3
LABELS_FILE = "labels.json"

# Makes the content and the label of a file from its seed, its number and the name of a label set.
Generate = Callable[[int, int, str], tuple[bytes, str]]


def write_clips(
    folder: Path, count: int, seed: int = SEED, labels: str = "shapes", generate: Generate = generate_file
) -> None:
    """Write `count` media files and labels.json, {file name: label}, into `folder`, which is made if missing.

    labels.json comes last: a folder that has it is whole.

    Args:
        folder: Where to write.
        count: How many files.
        seed: Of the endless set that they are the first of.
        labels: What the labels tell, one of LABEL_SETS.
        generate: Makes each file.
    """
    folder.mkdir(parents=True, exist_ok=True)
    names = [f"{number:05}" for number in range(count)]
    with ProcessPoolExecutor() as pool:
        made = pool.map(partial(_write, folder, seed, labels, generate), range(count), names, chunksize=8)
        given = list(tqdm(made, total=count, desc=f"clips of seed {seed}", unit="clip"))
    text = json.dumps(dict(zip(names, given, strict=True)), indent=2)
    with replacing(folder / LABELS_FILE) as content:
        content.write(f"{text}\n".encode())


def kept_clips(folder: Path, count: int, seed: int, labels: str, generate: Generate = generate_file) -> Path:
    """Return a folder within `folder` of what `write_clips` makes; made once, until the code that makes it changes."""
    files = folder / f"{labels}_{seed}_{count}_{source_digest(shapes, clips, generate)}"
    if not (files / LABELS_FILE).is_file():
        write_clips(files, count, seed, labels, generate)
    return files


def _write(folder: Path, seed: int, labels: str, generate: Generate, number: int, name: str) -> str:
    content, label = generate(seed, number, labels)
    (folder / name).write_bytes(content)
    return label


def main() -> None:
    """Write the clips."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--clips", type=int, default=440, help="clips to write (%(default)s)")
    parser.add_argument("--labels", choices=LABEL_SETS, default="shapes", help="what they tell (%(default)s)")
    arguments = parser.parse_args()
    write_clips(arguments.folder, arguments.clips, labels=arguments.labels)


if __name__ == "__main__":
    main()

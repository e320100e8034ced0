"""Run one artefact on every runtime and precision that there is (`python -m bench.runtimes FOLDER [--batch N]`).

The contestants take turns on the same views and the same cores, and the least processor time of each counts, that of
all its threads together: the machine's other work hardly adds to it. Prints a table in Markdown; the ratio is that of
ONNX Runtime in fp32 to the contestant. Segmentation networks are asked for their masks, which ONNX Runtime computes in
any case and OpenVINO only then.
"""

from __future__ import annotations

import argparse
import sys
from functools import partial
from itertools import product
from pathlib import Path
from time import process_time

from bench.turns import least_seconds
from service.errors import RuntimeLoadError
from service.machine import plan_threads
from service.manifest import PrecisionName, SegmenterManifest, read_artefact
from service.repository.served import example_batch
from service.runtimes.base import OutputName, Runtime
from service.runtimes.kinds import CPU_KINDS

Contestant = tuple[str, PrecisionName]
BASELINE: Contestant = ("onnxruntime", "fp32")


def measure(contestants: dict[Contestant, Runtime], batches: list[int], rounds: int, folder: Path) -> None:
    """Print a line for each batch size and contestant."""
    manifest = read_artefact(folder).manifest
    output: OutputName = "mask" if isinstance(manifest, SegmenterManifest) else "logits"
    print("| model | batch | runtime | precision | processor ms a view | ONNX Runtime fp32 / this |")
    print("| --- | --- | --- | --- | --- | --- |")
    for size in batches:
        frames = example_batch(manifest, size)
        runs = {key: partial(runtime.run, frames, output) for key, runtime in contestants.items()}
        best = least_seconds(runs, rounds, process_time)
        for (runtime_name, precision), seconds in best.items():
            ratio = f"{best[BASELINE] / seconds:.2f}" if BASELINE in best else "-"
            print(
                f"| {manifest.name} | {size} | {runtime_name} | {precision} | {1000 * seconds / size:.2f} | {ratio} |"
            )


def load(folder: Path) -> dict[Contestant, Runtime]:
    """Return every contestant that the artefact and the machine allow, and tell what does not load."""
    artefact, threads = read_artefact(folder), plan_threads(0, 0).runtime_threads
    loaded: dict[Contestant, Runtime] = {}
    for kind, precision in product(CPU_KINDS.values(), artefact.manifest.precisions):
        if kind.version is None or precision not in kind.precisions:
            continue
        try:
            loaded[kind.name, precision] = kind.open(artefact.model_file(precision), precision, threads)
        except RuntimeLoadError as error:
            print(f"left out: {error}", file=sys.stderr)
    return loaded


def main() -> None:
    """Measure one artefact."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path, help="artefact folder, <repository>/<name>/<version>")
    parser.add_argument("--batch", type=int, action="append", help="batch size, more than one by repeating (1)")
    parser.add_argument("--rounds", type=int, default=20, help="turns of each contestant (%(default)s)")
    arguments = parser.parse_args()
    measure(load(arguments.folder), arguments.batch or [1], arguments.rounds, arguments.folder)


if __name__ == "__main__":
    main()

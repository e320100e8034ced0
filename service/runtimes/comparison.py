"""The other process of a verification: run a model file and compare it with what torch said.

`python -m service.runtimes.comparison RUNTIME PRECISION MODEL CASE...`, which an export starts, knows nothing but the
file, the inputs and the expected outputs, and runs the file by the server's own code. A dot on a line of its own tells
that a run is done. The first view of the first case, alone in its batch, is compared as a server compares it when it
loads the file.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, cast, get_args

import numpy as np
from numpy.typing import NDArray

from service.machine import available_cores
from service.manifest import PrecisionName
from service.manifest.parity import class_logits, parity_error
from service.runtimes.base import OutputName, Runtime
from service.runtimes.kinds import CPU_KINDS

Outputs = Mapping[OutputName, NDArray[Any]]


@dataclass
class _Differences:
    """What was found so far: of each run, of each view in it, of a case at each batch size, and of the first view."""

    parity: float | None = None
    absolute: list[float] = field(default_factory=list)
    relative: list[float] = field(default_factory=list)
    medians: list[float] = field(default_factory=list)
    agreements: list[float] = field(default_factory=list)
    right: list[bool] = field(default_factory=list)
    torch_right: list[bool] = field(default_factory=list)

    def add_logits(self, actual: NDArray[np.float32], wanted: NDArray[np.float32], typical: float) -> None:
        """Compare whole outputs, flattened; `typical` is the spread of the case's outputs."""
        if self.parity is None:
            self.parity = parity_error(actual[0], class_logits(wanted[0]).tolist())
        differences = (actual - wanted).reshape(len(actual), -1)
        self.absolute.append(float(np.abs(differences).max()))
        # Of a view whose classes are nearly tied, as happens between two, its own spread would make much of rounding.
        spreads = np.maximum(_spreads(wanted), typical)
        self.relative += (np.linalg.norm(differences, axis=1) / spreads).tolist()

    def add_answers(self, actual: Outputs, wanted: Outputs, labels: NDArray[np.int64] | None) -> None:
        """Compare the classes: of every pixel, or of every view also with the right one."""
        if "mask" in wanted:
            self.agreements.append(float((actual["mask"] == wanted["mask"]).mean()))
            return
        answers, torch_answers = actual["logits"].argmax(axis=1), wanted["logits"].argmax(axis=1)
        self.agreements.append(float((answers == torch_answers).mean()))
        if labels is not None:
            self.right += (answers == labels).tolist()
            self.torch_right += (torch_answers == labels).tolist()


def _spreads(logits: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return how far each view's logits are from their mean, all together (2-norm)."""
    rows = logits.reshape(len(logits), -1)
    return np.asarray(np.linalg.norm(rows - rows.mean(axis=1, keepdims=True), axis=1))


def _arithmetic(runtime: str, precision: PrecisionName) -> PrecisionName:
    """Return the precision in which a runtime computes a file of `precision` on this CPU."""
    if precision == "bf16" and runtime == "openvino":
        from service.runtimes.openvino_cpu import has_bfloat16

        return "bf16" if has_bfloat16() else "fp32"
    # ONNX Runtime widens each operand of fp16 first.
    return "fp32" if precision == "fp16" else precision


def _compare(runtime: Runtime, case: Mapping[str, NDArray[Any]], found: _Differences) -> None:
    """Run every batch size on all views of a case."""
    views, labels = case["frames"], case.get("labels")
    typical = float(np.sqrt(np.mean(_spreads(case["logits"]) ** 2)))
    names: list[OutputName] = [name for name in get_args(OutputName) if name in case]
    for size in case["batch_sizes"].tolist():
        # The last views fill up a batch that would be too small, so that every run has exactly `size`.
        starts = [min(start, max(len(views) - size, 0)) for start in range(0, len(views), size)]
        before = len(found.relative)
        for start in starts:
            rows = np.resize(np.arange(start, min(start + size, len(views))), size)
            actual = {name: runtime.run(views[rows], name) for name in names}
            wanted = {name: case[name][rows] for name in names}
            print(".", flush=True)
            found.add_logits(actual["logits"], wanted["logits"], typical)
            found.add_answers(actual, wanted, None if labels is None else labels[rows])
        found.medians.append(float(np.median(found.relative[before:])))


def main() -> None:
    """Print the comparison of a model file with the stored cases as JSON."""
    name, precision, model_file, *cases = sys.argv[1:]
    arithmetic = _arithmetic(name, cast(PrecisionName, precision))
    runtime, found = CPU_KINDS[name].open(Path(model_file), arithmetic, available_cores()), _Differences()
    for file in cases:
        with np.load(file, allow_pickle=False) as arrays:
            # Each array is read from the file whenever it is asked for.
            _compare(runtime, dict(arrays), found)
    figures = {
        "arithmetic": arithmetic,
        "parity_error": found.parity,
        "max_abs_difference": float(np.max(found.absolute)),
        "max_relative_error": float(np.max(found.relative)),
        # Of the views of one case at one batch size, so that no other case or size makes up for it.
        "median_relative_error": float(np.max(found.medians)),
        # What 99 of 100 views keep to.
        "usual_relative_error": float(np.quantile(found.relative, 0.99, method="higher")),
        "top1_agreement": float(np.mean(found.agreements)),
        "accuracy": float(np.mean(found.right)) if found.right else None,
        "torch_accuracy": float(np.mean(found.torch_right)) if found.torch_right else None,
    }
    print(json.dumps(figures))


if __name__ == "__main__":
    main()

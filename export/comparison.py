"""The other process of a verification: run a model file and compare it with what torch said.

`python -m export.comparison MODEL CASE...` knows nothing but the file, the inputs and the expected outputs; it imports
neither torch nor the networks.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import onnxruntime as ort
from numpy.typing import NDArray


@dataclass
class _Worst:
    """The largest differences so far, and every share of arg maxes that agreed."""

    absolute: float = 0.0
    relative: float = 0.0
    agreements: list[float] = field(default_factory=list)

    def add_logits(self, actual: NDArray[np.float32], wanted: NDArray[np.float32]) -> None:
        """Compare whole outputs, flattened."""
        actual, wanted = actual.reshape(len(actual), -1), wanted.reshape(len(wanted), -1)
        self.absolute = max(self.absolute, float(np.abs(actual - wanted).max()))
        spread = np.linalg.norm(wanted - wanted.mean(axis=1, keepdims=True), axis=1)
        self.relative = max(self.relative, float((np.linalg.norm(actual - wanted, axis=1) / spread).max()))


def _compare(session: ort.InferenceSession, case: Mapping[str, NDArray[Any]], worst: _Worst) -> None:
    """Run every batch size on all views of a case."""
    input_name = session.get_inputs()[0].name
    names = [output.name for output in session.get_outputs()]
    views = case[input_name]
    for size in case["batch_sizes"].tolist():
        # The last views fill up a batch that would be too small, so that every run has exactly `size`.
        starts = [min(start, max(len(views) - size, 0)) for start in range(0, len(views), size)]
        for start in starts:
            rows = np.resize(np.arange(start, min(start + size, len(views))), size)
            actual = dict(zip(names, session.run(names, {input_name: views[rows]}), strict=True))
            wanted = {name: case[name][rows] for name in names}
            worst.add_logits(actual["logits"], wanted["logits"])
            if "mask" in wanted:
                equal = actual["mask"] == wanted["mask"]
            else:
                equal = actual["logits"].argmax(axis=1) == wanted["logits"].argmax(axis=1)
            worst.agreements.append(float(equal.mean()))


def main() -> None:
    """Print the comparison of a model file with the stored cases as JSON."""
    model_file, *cases = sys.argv[1:]
    session = ort.InferenceSession(model_file, providers=["CPUExecutionProvider"])
    worst = _Worst()
    for file in cases:
        with np.load(file, allow_pickle=False) as case:
            _compare(session, case, worst)
    figures = {
        "max_abs_difference": worst.absolute,
        "relative_error": worst.relative,
        "top1_agreement": float(np.mean(worst.agreements)),
    }
    print(json.dumps(figures))


if __name__ == "__main__":
    main()

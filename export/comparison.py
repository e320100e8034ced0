"""The other process of a verification: run a model file and compare it with what torch said.

`python -m export.comparison MODEL CASES` knows nothing but the file, the inputs and the expected outputs; it imports
neither torch nor the networks.
"""

from __future__ import annotations

import json
import sys

import numpy as np
import onnxruntime as ort
from numpy.typing import NDArray


def compare(
    model_file: str, views: NDArray[np.uint8], expected: NDArray[np.float32], batch_sizes: NDArray[np.int64]
) -> dict[str, float]:
    """Return the largest differences and the top-1 agreement of the file's outputs with `expected`.

    Every batch size is run on all views; differences are those of whole outputs, flattened.
    """
    session = ort.InferenceSession(model_file, providers=["CPUExecutionProvider"])
    name = session.get_inputs()[0].name
    worst_absolute = worst_relative = 0.0
    agreements = []
    for size in batch_sizes.tolist():
        # The last views fill up a batch that would be too small, so that every run has exactly `size`.
        starts = [min(start, max(len(views) - size, 0)) for start in range(0, len(views), size)]
        for start in starts:
            rows = np.resize(np.arange(start, min(start + size, len(views))), size)
            actual = session.run(None, {name: views[rows]})[0].reshape(size, -1)
            wanted = expected[rows].reshape(size, -1)
            worst_absolute = max(worst_absolute, float(np.abs(actual - wanted).max()))
            spread = np.linalg.norm(wanted - wanted.mean(axis=1, keepdims=True), axis=1)
            worst_relative = max(worst_relative, float((np.linalg.norm(actual - wanted, axis=1) / spread).max()))
            agreements.append(float((actual.argmax(axis=1) == wanted.argmax(axis=1)).mean()))
    return {
        "max_abs_difference": worst_absolute,
        "relative_error": worst_relative,
        "top1_agreement": float(np.mean(agreements)),
    }


def main() -> None:
    """Print the comparison of a model file with the stored cases as JSON."""
    model_file, cases = sys.argv[1:]
    with np.load(cases, allow_pickle=False) as stored:
        print(json.dumps(compare(model_file, stored["views"], stored["expected"], stored["batch_sizes"])))


if __name__ == "__main__":
    main()

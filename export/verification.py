"""Compare a written model file with the torch network, in another process.

A session of a runtime does not give all its memory back, and a file that only loads where it was made is not good
enough; so the file is opened by a fresh interpreter that knows nothing but the file, the inputs and what torch said.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from export.errors import VerificationError
from export.graph import ServedNetwork
from service.manifest import Verification

INPUTS = 8
RELATIVE_TOLERANCE = 1e-4


def verification_inputs(view_shape: tuple[int, ...], count: int) -> NDArray[np.uint8]:
    """Return `count` different views: noise of different contrast over slopes of different direction and colour."""
    rng = np.random.default_rng(0)
    height, width = view_shape[-3], view_shape[-2]
    rows, columns = np.linspace(-1, 1, height)[:, None, None], np.linspace(-1, 1, width)[None, :, None]
    views = np.empty((count, *view_shape), np.uint8)
    for view in views:
        slope = rows * rng.uniform(-80, 80, 3) + columns * rng.uniform(-80, 80, 3)
        noise = rng.normal(0, rng.uniform(2, 60), view_shape)
        view[:] = np.clip(rng.uniform(60, 200, 3) + slope + noise, 0, 255)
    return views


@torch.inference_mode()
def torch_logits(served: ServedNetwork, views: NDArray[np.uint8]) -> NDArray[np.float32]:
    """Return torch's logits, one view at a time, so that no batch hides a dependence between views."""
    rows = [served(torch.from_numpy(view[None]))[0] for view in views]
    return np.asarray(torch.stack(rows).numpy())


def verify(
    model_file: Path, views: NDArray[np.uint8], expected: NDArray[np.float32], max_batch_size: int
) -> Verification:
    """Run the file at batch 1, 2 and the maximum in a new process and compare with `expected`.

    Raises:
        VerificationError: The file cannot be run, or differs by more than the tolerance; with the figures.
    """
    batch_sizes = tuple(sorted({1, 2, max_batch_size}))
    with tempfile.TemporaryDirectory() as folder:
        cases = Path(folder) / "cases.npz"
        np.savez(cases, views=views, expected=expected, batch_sizes=np.array(batch_sizes))
        command = [sys.executable, "-m", "export.comparison", str(model_file), str(cases)]
        # ONNX Runtime's Linux wheels report to their maker unless they are told not to.
        environment = {**os.environ, "ORT_DISABLE_TELEMETRY": "1"}
        run = subprocess.run(command, capture_output=True, text=True, check=False, env=environment)  # noqa: S603
    if run.returncode:
        raise VerificationError(f"{model_file.name} cannot be run: {run.stderr.strip()[-2000:]}")
    result = Verification(batch_sizes=batch_sizes, inputs=len(views), **json.loads(run.stdout))
    if not result.relative_error < RELATIVE_TOLERANCE:
        raise VerificationError(
            f"{model_file.name} differs from torch by a relative {result.relative_error:.2e} "
            f"(largest difference of a logit {result.max_abs_difference:.2e}, "
            f"top-1 agreement {result.top1_agreement:.1%}); the limit is {RELATIVE_TOLERANCE:g}"
        )
    return result

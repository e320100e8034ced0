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
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from export.errors import VerificationError
from export.graph import INPUT_NAME, ServedNetwork, input_shape
from models import model_entry
from service.manifest import Verification

RELATIVE_TOLERANCE = 1e-4
MASK_AGREEMENT = 0.999
_VIEWS, _VIEWS_FOR_MASKS = 8, 2

Outputs = dict[str, NDArray[np.float32] | NDArray[np.uint8]]


@dataclass(frozen=True)
class Case:
    """Views of one shape, and what torch makes of them.

    Attributes:
        views: uint8 (N, ..., H, W, 3).
        outputs: By name, (N, ...).
    """

    views: NDArray[np.uint8]
    outputs: Outputs


def verification_shapes(name: str) -> list[tuple[int, ...]]:
    """Return the shapes of the views that model `name` is verified with: its own, and for segmentation two more."""
    shape = input_shape(name)
    if model_entry(name).weights.task != "image_segmentation":
        return [shape]
    side = shape[0]
    landscape, portrait = (side, _multiple(side * 3 // 2), 3), (_multiple(side * 3 // 4), _multiple(side // 2), 3)
    return [shape, landscape, portrait]


def _multiple(side: int) -> int:
    return max(64, -(-side // 32) * 32)


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
def torch_outputs(
    served: ServedNetwork, views: NDArray[np.uint8]
) -> dict[str, NDArray[np.float32] | NDArray[np.uint8]]:
    """Return torch's outputs by name, one view at a time, so that no batch hides a dependence between views."""
    columns: list[list[NDArray[np.float32]]] = [[] for _ in served.output_names]
    for view in views:
        made = served(torch.from_numpy(view[None]))
        for column, output in zip(columns, made if isinstance(made, tuple) else (made,), strict=True):
            column.append(output[0].numpy())
    return {name: np.stack(column) for name, column in zip(served.output_names, columns, strict=True)}


def torch_cases(name: str, served: ServedNetwork) -> list[Case]:
    """Return what the files of model `name` are held to."""
    shapes = verification_shapes(name)
    count = _VIEWS if len(shapes) == 1 else _VIEWS_FOR_MASKS
    inputs = (verification_inputs(shape, count) for shape in shapes)
    return [Case(views, torch_outputs(served, views)) for views in inputs]


def verify(model_file: Path, cases: list[Case], max_batch_size: int) -> Verification:
    """Run the file on every case at batch 1, 2 and the maximum in a new process and compare the outputs.

    Raises:
        VerificationError: The file cannot be run, or differs by more than the tolerance; with the figures.
    """
    batch_sizes = tuple(sorted({1, 2, max_batch_size}))
    with tempfile.TemporaryDirectory() as folder:
        files = []
        for number, case in enumerate(cases):
            files.append(Path(folder) / f"{number}.npz")
            arrays = {INPUT_NAME: case.views, **case.outputs}
            np.savez(files[-1], batch_sizes=np.array(batch_sizes), **arrays)  # type: ignore[arg-type]
        command = [sys.executable, "-m", "export.comparison", str(model_file), *map(str, files)]
        # ONNX Runtime's Linux wheels report to their maker unless they are told not to.
        environment = {**os.environ, "ORT_DISABLE_TELEMETRY": "1"}
        run = subprocess.run(command, capture_output=True, text=True, check=False, env=environment)  # noqa: S603
    if run.returncode:
        raise VerificationError(f"{model_file.name} cannot be run: {run.stderr.strip()[-2000:]}")
    result = Verification(
        batch_sizes=batch_sizes,
        input_sizes=tuple((case.views.shape[-3], case.views.shape[-2]) for case in cases),
        inputs=len(cases[0].views),
        **json.loads(run.stdout),
    )
    has_mask = any("mask" in case.outputs for case in cases)
    if not result.relative_error < RELATIVE_TOLERANCE or (has_mask and result.top1_agreement < MASK_AGREEMENT):
        limits = f"the limit is {RELATIVE_TOLERANCE:g}" + (f", and {MASK_AGREEMENT:.1%}" if has_mask else "")
        raise VerificationError(
            f"{model_file.name} differs from torch by a relative {result.relative_error:.2e} "
            f"(largest difference of a logit {result.max_abs_difference:.2e}, "
            f"top-1 agreement {result.top1_agreement:.1%}); {limits}"
        )
    return result

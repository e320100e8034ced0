"""Compare a written model file with the torch network, in another process.

A session of a runtime does not give all its memory back, and a file that only loads where it was made is not good
enough; so the file is opened by a fresh interpreter that knows nothing but the file, the inputs and what torch said.
"""

from __future__ import annotations

import json
import tempfile
from dataclasses import dataclass
from math import ceil
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from export.errors import ExportError, VerificationError
from export.graph import INPUT_NAME, ServedNetwork, input_shape
from export.progress import run_module, tracked
from export.rewrites import RuntimeName
from models import model_entry
from service.manifest import ClipFigures, PrecisionName, Verification
from service.manifest.parity import LIMITS as PARITY_LIMITS
from service.manifest.parity import parity_view
from service.manifest.shapes import aligned_side

_VIEWS, _VIEWS_FOR_MASKS = 8, 2
# Compared as far as the largest batch allows, and that as well. The graph is traced with two views: what was taken from
# them for a constant shows at one, and at a number that is no multiple of two.
_BATCH_SIZES = (1, 2, 3)

Outputs = dict[str, NDArray[np.float32] | NDArray[np.uint8]]


@dataclass(frozen=True)
class Acceptance:
    """How a written file is held to the torch network in float32.

    Attributes:
        relative_error: The limit to that of the logits of any made-up view, in half precision of the median one, and
            of what 99 in 100 decoded clips keep to; of an int8 file, of decoded clips only, since noise lies outside
            the ranges that it was calibrated for.
        agreement: The least share of equal classes, of the pixels of a mask and of decoded clips.
        runtime: The one that runs the file to find out: ONNX Runtime's CPU provider refuses bf16, and int8 files are
            made for OpenVINO.
    """

    relative_error: float
    agreement: float
    runtime: RuntimeName


# Wide, for an export has the clips that it is given, perhaps a few dozen, and a network that may be trained for other
# ones: there a view near a tie turns with nothing amiss, and costs more than a percent. They stop files that are wrong.
# What a trained network must keep is held on a thousand clips (demo/evaluate_precisions.py).
ACCEPTANCE: dict[PrecisionName, Acceptance] = {
    "fp32": Acceptance(1e-4, 0.999, "onnxruntime"),
    "fp16": Acceptance(1e-2, 0.99, "onnxruntime"),
    "bf16": Acceptance(1e-1, 0.97, "openvino"),
    "int8": Acceptance(5e-1, 0.95, "openvino"),
}


@dataclass(frozen=True)
class Case:
    """Views of one shape, and what torch makes of them.

    Attributes:
        views: uint8 (N, ..., H, W, 3).
        outputs: By name, (N, ...).
        labels: Number of the right class of each view, if they are known.
    """

    views: NDArray[np.uint8]
    outputs: Outputs
    labels: NDArray[np.int64] | None = None


def verification_shapes(name: str) -> list[tuple[int, ...]]:
    """Return the shapes of the views that model `name` is verified with: its own, and for segmentation two more."""
    shape = input_shape(name)
    if model_entry(name).weights.task != "image_segmentation":
        return [shape]
    side, more, less, half = (aligned_side(shape[0] * quarters // 4) for quarters in (4, 6, 3, 2))
    return [shape, (side, more, 3), (less, half, 3)]


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
    for view in tracked(list(views), "view"):
        made = served(torch.from_numpy(view[None]))
        for column, output in zip(columns, made if isinstance(made, tuple) else (made,), strict=True):
            column.append(output[0].numpy())
    return {name: np.stack(column) for name, column in zip(served.output_names, columns, strict=True)}


def torch_cases(name: str, served: ServedNetwork) -> list[Case]:
    """Return what the files of model `name` are held to; the first view of the first case is the parity view."""
    shapes = verification_shapes(name)
    count = _VIEWS if len(shapes) == 1 else _VIEWS_FOR_MASKS
    inputs = [verification_inputs(shape, count) for shape in shapes]
    inputs[0][0] = parity_view(shapes[0])
    return [Case(views, torch_outputs(served, views)) for views in inputs]


def check_spread(name: str, cases: list[Case]) -> None:
    """Go on if what torch makes of the views can be compared with: differences are shares of the logits' spread.

    Raises:
        ExportError: Those of a view are the same for all classes of model `name`.
    """
    for case in cases:
        for view in case.outputs["logits"]:
            if view.min() == view.max():
                raise ExportError(
                    f"torch gives all classes of {name} the same logit, {view.max():g}, so that none is the answer: "
                    "its head is all zeros, untrained perhaps; export one that was trained (--checkpoint)"
                )


def verify(model_file: Path, precision: PrecisionName, cases: list[Case], max_batch_size: int) -> Verification:
    """Run the file on every case in batches of 1, 2, 3 and the maximum in a new process and compare the outputs.

    Raises:
        VerificationError: The file cannot be run, or differs by more than the limits; with the figures.
    """
    batch_sizes = tuple(size for size in sorted({*_BATCH_SIZES, max_batch_size}) if size <= max_batch_size)
    figures = _compare(model_file, precision, cases, batch_sizes, relief="try a smaller --max-batch-size")
    result = Verification(
        batch_sizes=batch_sizes,
        input_sizes=tuple((case.views.shape[-3], case.views.shape[-2]) for case in cases),
        inputs=len(cases[0].views),
        arithmetic=figures["arithmetic"],
        max_abs_difference=figures["max_abs_difference"],
        relative_error=figures["max_relative_error"],
        top1_agreement=figures["top1_agreement"],
    )
    # A share of so few views would be too coarse to hold to; one of a mask's pixels is not.
    agreement = result.top1_agreement if any("mask" in case.outputs for case in cases) else None
    if precision == "fp32":
        _hold(model_file, precision, "", result.relative_error, agreement)
    elif precision != "int8":
        # The worst may be a tie, as below; what 99 in 100 of so few views keep to would be the worst.
        _hold(model_file, precision, "in the median of made-up views ", figures["median_relative_error"], agreement)
    if not figures["parity_error"] < PARITY_LIMITS[precision]:
        raise VerificationError(
            f"{model_file.name} differs from torch on the parity view by a relative {figures['parity_error']:.2e}; "
            f"the limit is {PARITY_LIMITS[precision]:g}, and no server would load it"
        )
    return result


def measure_on_clips(model_file: Path, precision: PrecisionName, cases: list[Case]) -> ClipFigures:
    """Run the file on decoded clips, one at a time, in a new process and compare the outputs.

    Raises:
        VerificationError: The file cannot be run, or differs by more than the limits; with the figures.
    """
    figures = _compare(model_file, precision, cases, (1,), relief="give fewer media files (--calibration)")
    result = ClipFigures(
        clips=sum(len(case.views) for case in cases),
        # A network that chooses among tokens (light UniFormer) is not continuous: a view whose choice is a tie jumps at
        # any change, in the order of the sums too, and tells nothing of the precision.
        relative_error=figures["usual_relative_error"],
        top1_agreement=figures["top1_agreement"],
        accuracy=figures["accuracy"],
        torch_accuracy=figures["torch_accuracy"],
    )
    where = f"on {result.clips} decoded clips "
    _hold(model_file, precision, where, result.relative_error, result.top1_agreement)
    return result


def _compare(
    model_file: Path, precision: PrecisionName, cases: list[Case], batch_sizes: tuple[int, ...], relief: str
) -> dict[str, Any]:
    with tempfile.TemporaryDirectory() as folder:
        files = []
        for number, case in enumerate(cases):
            files.append(Path(folder) / f"{number}.npz")
            arrays: dict[str, NDArray[Any]] = {INPUT_NAME: case.views, **case.outputs}
            if case.labels is not None:
                arrays["labels"] = case.labels
            np.savez(files[-1], batch_sizes=np.array(batch_sizes), **arrays)  # type: ignore[arg-type]
        command = [
            "service.runtimes.comparison",
            ACCEPTANCE[precision].runtime,
            precision,
            str(model_file),
            *map(str, files),
        ]
        runs = sum(ceil(len(case.views) / size) for case in cases for size in batch_sizes)
        try:
            figures: dict[str, Any] = json.loads(run_module(command, runs, "run", relief=relief))
        except ExportError as error:
            raise VerificationError(f"{model_file.name} cannot be run: {error}") from error
    return figures


def _hold(model_file: Path, precision: PrecisionName, where: str, error: float, agreement: float | None) -> None:
    """Go on if a file keeps to the limits; without `agreement`, to that of the relative error.

    Raises:
        VerificationError: It does not.
    """
    wanted = ACCEPTANCE[precision]
    if error < wanted.relative_error and (agreement is None or agreement >= wanted.agreement):
        return
    found, limit = f"by a relative {error:.2e}", f"{wanted.relative_error:g}"
    if agreement is not None:
        found, limit = f"{found} (top-1 agreement {agreement:.1%})", f"{limit}, and {wanted.agreement:.1%}"
    raise VerificationError(f"{model_file.name} differs from torch {where}{found}; the limit is {limit}")

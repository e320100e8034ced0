"""int8 files: static quantisation of convolutions and matrix products, with ranges from real decoded clips.

The form is what GPU compilers and OpenVINO take alike: QuantizeLinear and DequantizeLinear before Conv, MatMul
and Gemm, symmetric, a scale for each channel of the weights, biases left alone.
"""

from __future__ import annotations

import logging
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TypeVar

import numpy as np
import onnx
import onnxruntime as ort
from numpy.typing import NDArray
from onnxruntime.quantization import CalibrationDataReader, QuantFormat, quantize_static
from onnxruntime.quantization.shape_inference import quant_pre_process

from export.graph import INPUT_NAME, LOGITS_NAME
from export.progress import Report, tracked
from export.rewrites.int8 import prepare_for_int8

T = TypeVar("T")

LAYERS = ("Conv", "MatMul", "Gemm")
# Relative error of the logits above which layers are left as they are, until it is below. The root mean square over
# views: a file that is right about most and far off about a few is worse than one that is a little off about all.
TARGET_ERROR = 0.04
# How many views a file is judged by, and how many of them tell which layer does more harm than another. Both are taken
# evenly, for the files come by their names, which often begin with the class.
_JUDGED, _JUDGED_BY_LAYER = 64, 8


def quantise(model: Path, output: Path, views: Sequence[NDArray[np.uint8]], report: Report) -> list[str]:
    """Write the int8 file of a float32 one and return the names of the layers that stayed in float32.

    If quantising every layer moves the logits by more than TARGET_ERROR, each layer is quantised alone, and those that
    do most harm are left out, one, two, four and so on, until the error is below the target or half of them are out.

    Args:
        model: The float32 file.
        output: File to write.
        views: Inputs of the network, uint8 (..., height, width, 3), that its activations' ranges are taken from.
        report: Called with a line of text before each step, and with what came of leaving layers out.
    """
    with tempfile.TemporaryDirectory() as folder:
        report(f"taking ranges from {len(views)} views")
        quantiser = _Quantiser(model, Path(folder), views)
        quantiser.write(output, [])
        error = quantiser.error(output)
        left: list[str] = []
        if error > TARGET_ERROR:
            names = quantiser.layers()
            report(f"finding out which of {len(names)} layers suffer from int8 (relative error {error:.3f} with all)")
            errors = {name: quantiser.error_of_layer(name) for name in tracked(names, "layer")}
            worst = sorted(errors, key=errors.__getitem__, reverse=True)
            while error > TARGET_ERROR and (more := min(max(1, 2 * len(left)), len(names) // 2)) > len(left):
                left = worst[:more]
                quantiser.write(output, left)
                error = quantiser.error(output)
            missed = f", above the aim of {TARGET_ERROR}" if error > TARGET_ERROR else ""
            report(f"{len(left)} of {len(names)} layers stay in float32 (relative error {error:.3f}{missed})")
        return left


def quantise_everything(model: Path, output: Path, views: Sequence[NDArray[np.uint8]]) -> None:
    """Write the int8 file of a float32 one with every layer quantised, whatever that does to the logits."""
    with tempfile.TemporaryDirectory() as folder:
        _Quantiser(model, Path(folder), views).write(output, [])


class _Quantiser:
    """Quantises one model in different ways; its activations' ranges are collected once."""

    def __init__(self, model: Path, folder: Path, views: Sequence[NDArray[np.uint8]]) -> None:
        self._prepared, self._ranges, self._alone = folder / "prepared.onnx", folder / "ranges.json", folder / "1.onnx"
        self._views = views
        # It recommends what is done here, on the root logger.
        logging.getLogger().addFilter(_is_no_recommendation)
        quant_pre_process(model, self._prepared, skip_symbolic_shape=True)
        prepared = onnx.load(self._prepared)
        prepare_for_int8(prepared.graph)
        onnx.save(prepared, self._prepared)
        self._judged = _evenly(views, _JUDGED)
        # Of pictures of different sizes the logits have different shapes.
        self._wanted = _logits(model, self._judged)

    def layers(self) -> list[str]:
        """Return the names of all layers that can be quantised."""
        graph = onnx.load(self._prepared, load_external_data=False).graph
        return [node.name for node in graph.node if node.op_type in LAYERS]

    def write(self, output: Path, left: Sequence[str], only: Sequence[str] = ()) -> None:
        """Write the file in which every layer but `left`, or only `only`, is quantised."""
        quantize_static(
            self._prepared,
            output,
            _Views(tracked(self._views, "view")),
            quant_format=QuantFormat.QDQ,
            op_types_to_quantize=list(LAYERS),
            per_channel=True,
            nodes_to_quantize=list(only),
            nodes_to_exclude=list(left),
            extra_options={
                "ActivationSymmetric": True,
                "WeightSymmetric": True,
                "QuantizeBias": False,
                # A layer's inputs are its own; its output may go to layers that int8 would harm.
                "OpTypesToExcludeOutputQuantization": list(LAYERS),
            },
            calibration_cache_path=self._ranges,
        )

    def error(self, file: Path, views: int = _JUDGED) -> float:
        """Return the relative error of a file's logits against the float32 file's, over `views` of the judged ones."""
        pairs = zip(_logits(file, _evenly(self._judged, views)), _evenly(self._wanted, views), strict=True)
        errors = [np.linalg.norm(actual - wanted) / np.linalg.norm(wanted - wanted.mean()) for actual, wanted in pairs]
        return float(np.sqrt(np.mean(np.square(errors))))

    def error_of_layer(self, name: str) -> float:
        """Return the error when that layer alone is quantised."""
        self.write(self._alone, [], [name])
        return self.error(self._alone, _JUDGED_BY_LAYER)


class _Views(CalibrationDataReader):  # type: ignore[misc]
    """Hands out views, one at a time; only the first pass over a model asks for them."""

    def __init__(self, views: Iterator[NDArray[np.uint8]]) -> None:
        self._views = views

    def get_next(self) -> dict[str, NDArray[np.uint8]] | None:
        view = next(self._views, None)
        return None if view is None else {INPUT_NAME: view[None]}


def _evenly(items: Sequence[T], count: int) -> list[T]:
    """Return `count` of the items, each from the middle of a part of equal length; all, if there are no more."""
    count = min(count, len(items))
    return [items[(2 * number + 1) * len(items) // (2 * count)] for number in range(count)]


def _logits(file: Path, views: Sequence[NDArray[np.uint8]]) -> list[NDArray[np.float32]]:
    session = ort.InferenceSession(file, providers=["CPUExecutionProvider"])
    return [session.run([LOGITS_NAME], {INPUT_NAME: view[None]})[0] for view in views]


def _is_no_recommendation(record: logging.LogRecord) -> bool:
    return "pre-processing before quantization" not in record.getMessage()

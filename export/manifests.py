"""Write down what the service must know of an exported model: from the registry's terms to those of the manifest."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Any, TypedDict

from export.graph import INPUT_NAME, LOGITS_NAME, MASK_NAME, OPSET, input_shape
from export.sources import Sources, tool_versions
from models import model_entry
from models import weights as entries
from service.manifest import (
    LABELS_FILE,
    PALETTE_FILE,
    SCHEMA_VERSION,
    ClassifierManifest,
    Manifest,
    Precision,
    PrecisionName,
    Preprocessing,
    Sampling,
    SegmenterManifest,
    TensorSpec,
    Views,
    WholePicture,
    sha256_of,
)


class ViewProtocol(TypedDict):
    """The three parts of a classifier's manifest that say what happens before and after the network."""

    preprocessing: Preprocessing
    sampling: Sampling
    views: Views


def view_protocol(name: str) -> ViewProtocol:
    """Return preprocessing, sampling and views of classifier `name` in the manifest's form."""
    weights = model_entry(name).weights
    assert isinstance(weights.preprocessing, entries.Preprocessing)
    return {
        "preprocessing": Preprocessing(**asdict(weights.preprocessing), centering=weights.preprocessing.centering),
        "sampling": Sampling(**asdict(weights.sampling)),
        "views": Views(**asdict(weights.views)),
    }


def whole_picture(name: str) -> WholePicture:
    """Return the preprocessing of segmentation model `name` in the manifest's form."""
    return WholePicture(**asdict(model_entry(name).weights.preprocessing))


def model_file_name(precision: PrecisionName) -> str:
    """Return the name of the model file of a precision: model.onnx, model.fp16.onnx."""
    return "model.onnx" if precision == "fp32" else f"model.{precision}.onnx"


def digests_of(folder: Path) -> dict[str, str]:
    """Return the SHA-256 of each file in a folder that holds nothing else, by name.

    Raises:
        OSError: One cannot be read.
    """
    return {file.name: sha256_of(file) for file in sorted(folder.iterdir())}


def make_manifest(
    name: str,
    version_name: str,
    *,
    served_as: str,
    sources: Sources,
    num_classes: int,
    files: dict[str, str],
    precisions: dict[PrecisionName, Precision],
    parity: tuple[float, ...],
) -> Manifest:
    """Return the manifest of an artefact's files.

    Args:
        name: Registered name.
        version_name: Number of the artefact's version.
        served_as: What the model goes by; the registered name or another.
        sources: What they were made from.
        num_classes: Outputs of the network's head.
        files: SHA-256 of models, labels and palette by name (`digests_of`).
        precisions: The model files, and what they differ by from torch; fp32 is among them.
        parity: What torch says of the parity view.

    Raises:
        pydantic.ValidationError: A file is missing among `files`.
    """
    weights = model_entry(name).weights
    runtimes = {entry.runtime for entry in precisions.values()} - {"onnxruntime"}
    common: dict[str, Any] = {
        "schema_version": SCHEMA_VERSION,
        "name": served_as,
        "network": None if served_as == name else name,
        "version": version_name,
        "task": weights.task,
        "num_classes": num_classes,
        "labels": LABELS_FILE,
        "checkpoint": sources.checkpoint,
        "clips": sources.clips,
        "parity": parity,
        "licence": weights.licence,
        "opset": OPSET,
        "max_batch_size": max(precisions["fp32"].verification.batch_sizes),
        "precisions": precisions,
        "tools": tool_versions({*runtimes, *sources.readers}),
        "files": files,
    }
    if weights.task == "image_segmentation":
        return SegmenterManifest(
            **common,
            inputs=(TensorSpec(name=INPUT_NAME, dtype="uint8", shape=("batch", "height", "width", 3)),),
            outputs=(
                TensorSpec(name=MASK_NAME, dtype="uint8", shape=("batch", "height", "width")),
                TensorSpec(name=LOGITS_NAME, dtype="float32", shape=("batch", num_classes, "height/4", "width/4")),
            ),
            preprocessing=whole_picture(name),
            palette=PALETTE_FILE,
        )
    return ClassifierManifest(
        **common,
        inputs=(TensorSpec(name=INPUT_NAME, dtype="uint8", shape=("batch", *input_shape(name))),),
        outputs=(TensorSpec(name=LOGITS_NAME, dtype="float32", shape=("batch", num_classes)),),
        **view_protocol(name),
        multi_label=weights.multi_label,
    )

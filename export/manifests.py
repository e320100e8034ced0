"""Write down what the service must know of an exported model: from the registry's terms to those of the manifest."""

from __future__ import annotations

import hashlib
from contextlib import suppress
from dataclasses import asdict, dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any, TypedDict

from export.graph import INPUT_NAME, LOGITS_NAME, MASK_NAME, OPSET, input_shape
from models import load_labels, model_entry
from models import weights as entries
from service.manifest import (
    LABELS_FILE,
    PALETTE_FILE,
    SCHEMA_VERSION,
    Checkpoint,
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

TOOLS = ("torch", "onnx", "onnxscript", "onnxruntime", "openvino", "clipserve")


@dataclass(frozen=True)
class Sources:
    """The files that an artefact is made from.

    Attributes:
        checkpoint: The weights; None: untrained ones.
        calibration: Folder of media files; None: none were used.
    """

    checkpoint: Path | None
    calibration: Path | None

    @property
    def facts(self) -> dict[str, Any]:
        """What the manifest says of them: names and digests."""
        checkpoint = self.checkpoint and Checkpoint(file=self.checkpoint.name, sha256=sha256_of(self.checkpoint))
        return {"checkpoint": checkpoint, "clips": self.calibration and _digest_of_folder(self.calibration)}


def _digest_of_folder(folder: Path) -> str:
    files = sorted(file for file in folder.iterdir() if file.is_file())
    return hashlib.sha256("".join(f"{file.name}\0{sha256_of(file)}\n" for file in files).encode()).hexdigest()


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


def make_manifest(
    name: str,
    version_name: str,
    sources: Sources,
    folder: Path,
    precisions: dict[PrecisionName, Precision],
    parity: tuple[float, ...],
) -> Manifest:
    """Return the manifest of the files in `folder`.

    Args:
        name: Registered name.
        version_name: Number of the artefact's version.
        sources: What they were made from.
        folder: Where models, labels and palette lie.
        precisions: The model files, and what they differ by from torch; fp32 is among them.
        parity: What torch says of the parity view.
    """
    weights = model_entry(name).weights
    common: dict[str, Any] = {
        "schema_version": SCHEMA_VERSION,
        "name": name,
        "version": version_name,
        "task": weights.task,
        "num_classes": len(load_labels(weights.labels)),
        "labels": LABELS_FILE,
        **sources.facts,
        "parity": parity,
        "licence": weights.licence,
        "opset": OPSET,
        "max_batch_size": max(precisions["fp32"].verification.batch_sizes),
        "precisions": precisions,
        "tools": tool_versions(),
        "files": {file.name: sha256_of(file) for file in sorted(folder.iterdir())},
    }
    if weights.task == "image_segmentation":
        return SegmenterManifest(
            **common,
            inputs=(TensorSpec(name=INPUT_NAME, dtype="uint8", shape=("batch", "height", "width", 3)),),
            outputs=(
                TensorSpec(name=MASK_NAME, dtype="uint8", shape=("batch", "height", "width")),
                TensorSpec(
                    name=LOGITS_NAME, dtype="float32", shape=("batch", common["num_classes"], "height/4", "width/4")
                ),
            ),
            preprocessing=whole_picture(name),
            palette=PALETTE_FILE,
        )
    return ClassifierManifest(
        **common,
        inputs=(TensorSpec(name=INPUT_NAME, dtype="uint8", shape=("batch", *input_shape(name))),),
        outputs=(TensorSpec(name=LOGITS_NAME, dtype="float32", shape=("batch", common["num_classes"])),),
        **view_protocol(name),
        multi_label=weights.multi_label,
    )


def tool_versions() -> dict[str, str]:
    """Return the versions of what was used; OpenVINO need not be installed."""
    versions = {}
    for tool in TOOLS:
        with suppress(PackageNotFoundError):
            versions[tool] = version(tool)
    return versions

"""Make an artefact folder: build, load, export, verify, and only then put it in place."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict
from importlib.metadata import version
from pathlib import Path
from typing import TypedDict, cast, get_args

from export.errors import ExportError
from export.graph import INPUT_NAME, OPSET, OUTPUT_NAME, export_onnx, input_shape, served_network
from export.verification import INPUTS, torch_logits, verification_inputs, verify
from models import create_model, load_checkpoint, load_labels, model_entry
from service.manifest import (
    LABELS_FILE,
    MANIFEST_FILE,
    SCHEMA_VERSION,
    Checkpoint,
    Manifest,
    Precision,
    Preprocessing,
    Sampling,
    ServedTask,
    TensorSpec,
    Verification,
    Views,
    sha256_of,
)

MODEL_FILE = "model.onnx"
SERVED_TASKS = get_args(ServedTask)
TOOLS = ("torch", "onnx", "onnxscript", "onnxruntime", "clipserve")

Report = Callable[[str], None]


class ManifestParts(TypedDict):
    """The three parts of a manifest that say what happens before and after the network."""

    preprocessing: Preprocessing
    sampling: Sampling
    views: Views


def manifest_parts(name: str) -> ManifestParts:
    """Return preprocessing, sampling and views of model `name` in the manifest's form."""
    weights = model_entry(name).weights
    return {
        "preprocessing": Preprocessing(**asdict(weights.preprocessing), centering=weights.preprocessing.centering),
        "sampling": Sampling(**asdict(weights.sampling)),
        "views": Views(**asdict(weights.views)),
    }


def export_model(name: str, checkpoint: Path | None, repository: Path, max_batch_size: int, report: Report) -> Path:
    """Export model `name` into a new version of `repository/<name>/` and return that folder.

    Versions are never changed: the number is one more than the highest there is. Everything is made and verified in a
    staging folder; one rename puts it in place, so that an interrupted export leaves the repository as it was.

    Args:
        name: A registered name of a classification model.
        checkpoint: Official file or .safetensors; None exports untrained weights.
        repository: Folder that the server reads; made if missing.
        max_batch_size: Largest batch that is verified, and so the largest that the server will run.
        report: Called with a line of text before each step.

    Raises:
        ExportError: Verification failed, or the model cannot be served.
        models.CheckpointError: The checkpoint does not fit.
        ValueError: Unknown name.
    """
    if model_entry(name).weights.task not in SERVED_TASKS:
        raise ExportError(f"{name} is for {model_entry(name).weights.task}, which the server does not answer yet")
    report("building the network")
    network = create_model(name)
    if checkpoint is not None:
        report(f"loading {checkpoint}")
        load_checkpoint(network, checkpoint)
    served, shape = served_network(network), input_shape(name)
    with _staging_folder(repository) as staging:
        report("writing the ONNX graph")
        export_onnx(served, shape, max_batch_size, staging / MODEL_FILE)
        report("verifying it against torch in another process")
        views = verification_inputs(shape, INPUTS)
        verification = verify(staging / MODEL_FILE, views, torch_logits(served, views), max_batch_size)
        labels = load_labels(model_entry(name).weights.labels)
        (staging / LABELS_FILE).write_text("".join(f"{label}\n" for label in labels), encoding="utf-8")
        folder = _next_version(repository / name)
        manifest = _manifest(name, folder.name, shape, checkpoint, staging, verification)
        (staging / MANIFEST_FILE).write_text(manifest.model_dump_json(indent=2) + "\n", encoding="utf-8")
        report(f"putting {folder} in place")
        folder.parent.mkdir(exist_ok=True)
        staging.chmod(0o755)
        staging.rename(folder)
    return folder


@contextmanager
def _staging_folder(repository: Path) -> Iterator[Path]:
    """Yield a temporary folder on the repository's file system; it is gone at the end unless it was renamed."""
    repository.mkdir(parents=True, exist_ok=True)
    outside = repository.absolute().parent
    # Beside the repository where one rename can reach it from there; a mounted volume is a file system of its own.
    beside = outside.stat().st_dev == repository.stat().st_dev and os.access(outside, os.W_OK)
    folder = Path(tempfile.mkdtemp(prefix=".clipserve-export-", dir=outside if beside else repository))
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _next_version(folder: Path) -> Path:
    taken = [int(entry.name) for entry in folder.glob("*") if entry.name.isdigit()]
    return folder / str(max(taken, default=0) + 1)


def _manifest(
    name: str,
    version_name: str,
    shape: tuple[int, ...],
    checkpoint: Path | None,
    staging: Path,
    verification: Verification,
) -> Manifest:
    entry = model_entry(name)
    weights = entry.weights
    task = cast(ServedTask, weights.task)
    num_classes = len(load_labels(weights.labels))
    return Manifest(
        schema_version=SCHEMA_VERSION,
        name=name,
        version=version_name,
        task=task,
        inputs=(TensorSpec(name=INPUT_NAME, dtype="uint8", shape=("batch", *shape)),),
        outputs=(TensorSpec(name=OUTPUT_NAME, dtype="float32", shape=("batch", num_classes)),),
        **manifest_parts(name),
        multi_label=weights.multi_label,
        num_classes=num_classes,
        labels=LABELS_FILE,
        checkpoint=None if checkpoint is None else Checkpoint(file=checkpoint.name, sha256=sha256_of(checkpoint)),
        licence=weights.licence,
        opset=OPSET,
        max_batch_size=max(verification.batch_sizes),
        precisions={"fp32": Precision(file=MODEL_FILE, verification=verification)},
        tools={tool: version(tool) for tool in TOOLS},
        files={file: sha256_of(staging / file) for file in (MODEL_FILE, LABELS_FILE)},
    )

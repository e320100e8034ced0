"""Make an artefact folder: build, load, export, verify, and only then put it in place."""

from __future__ import annotations

import json
import os
import shutil
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path
from typing import get_args

from export.clips import read_clips
from export.errors import ExportError
from export.graph import served_network
from export.manifests import make_manifest
from export.variants import PrecisionWriter
from export.verification import LIMITS
from models import create_model, load_checkpoint, load_labels, load_palette, model_entry
from service.manifest import LABELS_FILE, MANIFEST_FILE, PALETTE_FILE, PrecisionName

SERVED_TASKS = ("video_classification", "image_classification", "image_segmentation")
# A batch of large pictures takes much memory.
DEFAULT_BATCH_SIZE, DEFAULT_BATCH_SIZE_FOR_MASKS = 8, 2

Report = Callable[[str], None]


def export_model(
    name: str,
    checkpoint: Path | None,
    repository: Path,
    max_batch_size: int | None,
    report: Report,
    precisions: Sequence[PrecisionName] = ("fp32",),
    calibration: Path | None = None,
) -> Path:
    """Export model `name` into a new version of `repository/<name>/` and return that folder.

    Versions are never changed: the number is one more than the highest there is. Everything is made and verified in a
    staging folder; one rename puts it in place, so that an interrupted export leaves the repository as it was.

    Args:
        name: A registered name of a model that classifies or segments.
        checkpoint: Official file or .safetensors; None exports untrained weights.
        repository: Folder that the server reads; made if missing.
        max_batch_size: Largest batch that is verified, and so the largest that the server will run; None: 8, or 2 for
            segmentation.
        report: Called with a line of text before each step.
        precisions: Model files to write; fp32 is always among them.
        calibration: Folder of media files (export/clips.py): one half gives int8 its ranges, every precision is
            measured on the other.

    Raises:
        ExportError: Verification failed, or the model cannot be served.
        models.CheckpointError: The checkpoint does not fit.
        ValueError: Unknown name.
    """
    _check_precisions(precisions, calibration)
    weights = model_entry(name).weights
    if weights.task not in SERVED_TASKS:
        raise ExportError(f"{name} is for {weights.task}, which the server does not answer yet")
    is_segmentor = weights.task == "image_segmentation"
    if max_batch_size is None:
        max_batch_size = DEFAULT_BATCH_SIZE_FOR_MASKS if is_segmentor else DEFAULT_BATCH_SIZE
    report("building the network")
    network = create_model(name)
    if checkpoint is not None:
        report(f"loading {checkpoint}")
        load_checkpoint(network, checkpoint)
    served = served_network(network)
    with _staging_folder(repository) as staging:
        clips = None
        if calibration is not None:
            report(f"decoding the files of {calibration}")
            clips = read_clips(calibration, name)
        writer = PrecisionWriter(name, network, served, max_batch_size, clips, report)
        # In the order of PrecisionName: int8 is made from the fp32 file.
        written = {
            precision: writer.write(precision, staging)
            for precision in get_args(PrecisionName)
            if precision == "fp32" or precision in precisions
        }
        labels = "".join(f"{label}\n" for label in load_labels(weights.labels))
        (staging / LABELS_FILE).write_text(labels, encoding="utf-8")
        if is_segmentor:
            (staging / PALETTE_FILE).write_text(json.dumps(load_palette(weights.labels)) + "\n", encoding="utf-8")
        folder = _next_version(repository / name)
        manifest = make_manifest(name, folder.name, checkpoint, staging, written)
        (staging / MANIFEST_FILE).write_text(manifest.model_dump_json(indent=2) + "\n", encoding="utf-8")
        report(f"putting {folder} in place")
        folder.parent.mkdir(exist_ok=True)
        staging.chmod(0o755)
        staging.rename(folder)
    return folder


def _check_precisions(precisions: Sequence[PrecisionName], calibration: Path | None) -> None:
    if "int8" in precisions and calibration is None:
        raise ExportError("int8 needs real clips to take its ranges from: give a folder of them (--calibration)")
    for precision in precisions:
        if find_spec(LIMITS[precision].runtime) is None:
            raise ExportError(
                f"{precision} is verified by OpenVINO, which is not installed: pip install 'clipserve[openvino]'"
            )


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

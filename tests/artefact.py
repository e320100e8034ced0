"""What the manifests of hand-written artefacts have in common."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from pathlib import Path


def write_manifest_file(folder: Path, side: int, batch_sizes: Sequence[int], **own: object) -> None:
    """Write the manifest of the files in a folder `<name>/<version>`.

    Args:
        folder: Has model.onnx, labels.txt and whatever else belongs to the artefact.
        side: Height and width at which the network was verified, pixels.
        batch_sizes: Sizes at which it was, the last one its largest.
        own: What the task adds, or says otherwise.
    """
    files = sorted(file for file in folder.iterdir() if file.name != "manifest.json")
    verification = {
        "batch_sizes": batch_sizes,
        "input_sizes": [[side, side]],
        "inputs": 1,
        "max_abs_difference": 0.0,
        "relative_error": 0.0,
        "top1_agreement": 1.0,
    }
    manifest = {
        "schema_version": 1,
        "name": folder.parent.name,
        "version": folder.name,
        "labels": "labels.txt",
        "checkpoint": None,
        "licence": "Apache-2.0",
        "opset": 20,
        "max_batch_size": batch_sizes[-1],
        "precisions": {"fp32": {"file": "model.onnx", "verification": verification}},
        "tools": {},
        "files": {file.name: hashlib.sha256(file.read_bytes()).hexdigest() for file in files},
        **own,
    }
    (folder / "manifest.json").write_text(json.dumps(manifest))

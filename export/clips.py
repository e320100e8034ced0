"""Decoded clips and pictures of a folder: what int8 is calibrated with, and what every precision is measured on.

The service decodes them, in a process of its own, exactly as it decodes an upload.
"""

from __future__ import annotations

import json
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from export.errors import ExportError
from export.graph import ServedNetwork
from export.manifests import view_protocol, whole_picture
from export.progress import run_module
from export.sources import files_in
from export.verification import Case, torch_outputs
from models import model_entry

LABELS_FILE = "labels.json"
# The user's own files: large, but not without end.
_LIMITS = {"max_pixels": 50_000_000, "max_frames": 1_000_000, "max_seconds": 86_400, "max_streams": 64}
# Of the longest video that is taken this is one picture, the first.
_ONE_PICTURE_FPS = 1 / (2 * _LIMITS["max_seconds"])


@dataclass(frozen=True)
class Clips:
    """One view of every file of a folder, in the order of their names: of a video the clip in its middle, or a picture.

    Attributes:
        views: uint8 (..., height, width, 3).
        labels: Number of the right class of each; None if the folder has no labels.json.
    """

    views: list[NDArray[np.uint8]]
    labels: list[int] | None

    @property
    def calibration(self) -> list[NDArray[np.uint8]]:
        """Every other view, the first included: to calibrate with."""
        return self.views[::2]

    def cases(self, served: ServedNetwork) -> list[Case]:
        """Return what torch makes of the views that nothing is calibrated with, those of one shape together."""
        numbers: dict[tuple[int, ...], list[int]] = {}
        for number in range(1, len(self.views), 2):
            numbers.setdefault(self.views[number].shape, []).append(number)
        return [self._case(served, chosen) for chosen in numbers.values()]

    def _case(self, served: ServedNetwork, numbers: list[int]) -> Case:
        views = np.stack([self.views[number] for number in numbers])
        labels = None if self.labels is None else np.array([self.labels[number] for number in numbers])
        return Case(views, torch_outputs(served, views), labels)


def read_clips(folder: Path, name: str, known: Sequence[str]) -> Clips:
    """Decode every file of a folder as model `name` sees it; labels.json may give {file name: one of `known`}.

    Raises:
        ExportError: A file cannot be decoded, there are fewer than two, or a label is missing or unknown.
    """
    files = [file for file in files_in(folder) if file.suffix != ".json"]
    if len(files) < 2:
        raise ExportError(f"{folder} holds {len(files)} media files: one half calibrates, the other is measured on")
    # Before the files are decoded, which may take long.
    labels = _labels(folder, files, name, known)
    return Clips(_decoded(folder, files, name), labels)


def _decoded(folder: Path, files: Sequence[Path], name: str) -> list[NDArray[np.uint8]]:
    with tempfile.TemporaryDirectory() as temporary:
        output = Path(temporary) / "views.npz"
        request = json.dumps({"files": [str(file) for file in files], "request": _request(name)})
        relief = "leave out the longest videos and the largest pictures, or have more of it free"
        try:
            run_module(["service.media.extract", str(output)], len(files), "file", request, relief)
        except ExportError as error:
            raise ExportError(f"{folder} cannot be decoded: {error}") from error
        with np.load(output, allow_pickle=False) as stored:
            views = [stored[str(number)][0] for number in range(len(files))]
    if model_entry(name).weights.task == "image_classification":
        views = [view[0] for view in views]  # the decoder gives every view a time axis: (1, H, W, 3) -> (H, W, 3)
    return views


def _request(name: str) -> dict[str, Any]:
    if model_entry(name).weights.task == "image_segmentation":
        protocol: dict[str, Any] = {"kind": "pictures", "preprocessing": whole_picture(name).model_dump(mode="json")}
        protocol |= {"fps": _ONE_PICTURE_FPS, "max_pictures": 1, "max_total_pixels": _LIMITS["max_pixels"]}
    else:
        parts: dict[str, Any] = dict(view_protocol(name))
        protocol = {"kind": "views", **{key: part.model_dump(mode="json") for key, part in parts.items()}}
        protocol["views"] |= {"clips": 1, "crops": 1}
    return {**protocol, "limits": _LIMITS}


def _labels(folder: Path, files: Sequence[Path], name: str, known: Sequence[str]) -> list[int] | None:
    path = folder / LABELS_FILE
    if not path.is_file():
        return None
    try:
        # Some editors begin a file with a byte order mark.
        given = json.loads(path.read_bytes().decode("utf-8-sig"))
    except ValueError as error:
        raise ExportError(f"{path} is no JSON in UTF-8: {error}") from error
    if not isinstance(given, dict):
        raise ExportError(f'{path} must be an object that gives every file a label, {{"FILE": "LABEL", ...}}')
    for file in files:
        if file.name not in given:
            raise ExportError(f"{path} gives no label for {file.name!r}: it must name every media file of the folder")
        if given[file.name] not in known:
            some = ", ".join(known[:3]) + (", ..." if len(known) > 3 else "")
            raise ExportError(
                f"{path}: {file.name!r}: {given[file.name]!r:.80} is none of the {len(known)} labels of {name} ({some})"
            )
    return [known.index(given[file.name]) for file in files]

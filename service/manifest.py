"""The artefact's manifest: the one definition of what an exporter writes and the service reads.

An artefact is a folder `<repository>/<name>/<version>/` with manifest.json, the model files and the labels. This module
imports nothing heavy, so that the exporter can use it too.
"""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from service.errors import ManifestError

SCHEMA_VERSION: Literal[1] = 1
MANIFEST_FILE = "manifest.json"
LABELS_FILE = "labels.txt"

ServedTask = Literal["video_classification", "image_classification"]


class _Part(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class TensorSpec(_Part):
    """Name, element type and shape of an input or output; the batch axis is the string "batch"."""

    name: str
    dtype: Literal["uint8", "float32"]
    shape: tuple[int | Literal["batch"], ...]


class Preprocessing(_Part):
    """How one decoded RGB frame becomes one uint8 frame of the input tensor, and what the graph does to it after.

    Attributes:
        resize: Short side after the resize, pixels; the long side is floor(long * resize / short).
        crop: Height and width of the crop, pixels.
        interpolation: "bilinear" samples four neighbours without antialiasing; "bilinear_antialias" and "bicubic"
            filter over the whole footprint as PIL does.
        centering: How an odd margin is split for the centre crop: "ceil" puts the larger half before (PySlowFast),
            "round" rounds half to even (torchvision).
        mean, std, channels: Applied inside the graph to values in [0, 1]; recorded here for people.
    """

    resize: int = Field(gt=0)
    crop: tuple[int, int]
    interpolation: Literal["bilinear", "bilinear_antialias", "bicubic"]
    centering: Literal["ceil", "round"]
    mean: tuple[float, float, float]
    std: tuple[float, float, float]
    channels: Literal["rgb", "bgr"]

    @model_validator(mode="after")
    def _crop_fits(self) -> Preprocessing:
        if not 0 < max(self.crop) <= self.resize:
            raise ValueError(f"crop {self.crop} must lie within the resized short side {self.resize}")
        return self


class Sampling(_Part):
    """Which frames of a video make a clip (service/media/sampling.py has the arithmetic).

    Attributes:
        kind: Name of the rule.
        num_frames: Frames a clip.
        rate: Source frames a step, for the dense rules.
        target_fps: Frame rate that `rate` counts in; None: the file's own.
    """

    kind: Literal["dense", "dense_stride", "segments_middle", "segments_offset", "segments_centre", "single"]
    num_frames: int = Field(gt=0)
    rate: int | None = Field(default=None, gt=0)
    target_fps: float | None = Field(default=None, gt=0)

    @model_validator(mode="after")
    def _rate_given(self) -> Sampling:
        if self.kind in ("dense", "dense_stride") and self.rate is None:
            raise ValueError(f"sampling of kind {self.kind} needs a rate")
        return self


class Views(_Part):
    """Default number of views of a request and how their outputs are combined."""

    clips: int = Field(gt=0)
    crops: Literal[1, 3]
    single_crop: Literal["center", "first"]
    combine: Literal["mean_logits", "mean_softmax", "max_sigmoid"]


class Checkpoint(_Part):
    """The weights that were exported; `file` is a bare file name, sha256 of its content."""

    file: str
    sha256: str


class Verification(_Part):
    """What one written model file differed by from the torch network.

    Attributes:
        batch_sizes: Batch sizes compared.
        inputs: Number of different inputs compared at each.
        max_abs_difference: Largest difference of a logit.
        relative_error: Largest ||file - torch|| / ||torch - mean(torch)|| of a view.
        top1_agreement: Share of inputs with the same arg max, 0 to 1.
    """

    batch_sizes: tuple[int, ...]
    inputs: int
    max_abs_difference: float
    relative_error: float
    top1_agreement: float


class Precision(_Part):
    """One model file and what its verification measured."""

    file: str
    verification: Verification


class Manifest(_Part):
    """Everything the service knows about a model."""

    schema_version: Literal[1]
    name: str = Field(pattern=r"^[a-z0-9][a-z0-9_.-]*$")
    version: str = Field(pattern=r"^[1-9][0-9]*$")
    task: ServedTask
    inputs: tuple[TensorSpec, ...]
    outputs: tuple[TensorSpec, ...]
    preprocessing: Preprocessing
    sampling: Sampling
    views: Views
    multi_label: bool
    num_classes: int = Field(gt=0)
    labels: str
    checkpoint: Checkpoint | None
    licence: str
    opset: int
    max_batch_size: int = Field(gt=0)
    precisions: dict[Literal["fp32", "fp16", "bf16", "int8"], Precision]
    tools: dict[str, str]
    files: dict[str, str]

    @model_validator(mode="after")
    def _files_are_listed(self) -> Manifest:
        for file in (self.labels, *(precision.file for precision in self.precisions.values())):
            if file not in self.files:
                raise ValueError(f"{file} has no sha256 under `files`")
        for file in self.files:
            if Path(file).name != file or file.startswith("."):
                raise ValueError(f"{file!r} is not a plain file name")
        return self


class Artefact:
    """A checked artefact folder: its path, manifest and labels."""

    def __init__(self, folder: Path, manifest: Manifest, labels: tuple[str, ...]) -> None:
        self.folder = folder
        self.manifest = manifest
        self.labels = labels

    def model_file(self, precision: Literal["fp32", "fp16", "bf16", "int8"]) -> Path:
        """Return the path of the model file of that precision.

        Raises:
            ManifestError: The artefact has no such precision.
        """
        if precision not in self.manifest.precisions:
            have = ", ".join(self.manifest.precisions)
            raise ManifestError(f"{self.folder} has no precision {precision}; it has {have}")
        return self.folder / self.manifest.precisions[precision].file


def sha256_of(path: Path) -> str:
    """Return the hexadecimal SHA-256 of a file's content."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def read_artefact(folder: Path) -> Artefact:
    """Read and check an artefact folder, every digest included.

    Raises:
        ManifestError: Something is missing, invalid or not what the manifest says; the message names file and reason.
    """
    path = folder / MANIFEST_FILE
    try:
        manifest = Manifest.model_validate(json.loads(path.read_text(encoding="utf-8")))
    except FileNotFoundError as error:
        raise ManifestError(f"{folder} holds no {MANIFEST_FILE}; write one with `clipserve export`") from error
    except (ValidationError, json.JSONDecodeError, UnicodeDecodeError) as error:
        raise ManifestError(f"{path} is not a valid manifest: {error}") from error
    if (folder.parent.name, folder.name) != (manifest.name, manifest.version):
        raise ManifestError(f"{path} is of {manifest.name}/{manifest.version}: the folder must be named so")
    for file, expected in manifest.files.items():
        if not (folder / file).is_file():
            raise ManifestError(f"{folder / file} is missing")
        if sha256_of(folder / file) != expected:
            raise ManifestError(f"{folder / file} is not the file that was exported (sha256 differs); export it again")
    labels = tuple((folder / manifest.labels).read_text(encoding="utf-8").splitlines())
    if len(labels) != manifest.num_classes:
        raise ManifestError(f"{folder / manifest.labels} has {len(labels)} labels for {manifest.num_classes} classes")
    return Artefact(folder, manifest, labels)

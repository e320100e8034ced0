"""Read an artefact folder and check that all of it is what the manifest says."""

from __future__ import annotations

import errno
import hashlib
import json
import os
import stat
from io import BufferedReader
from pathlib import Path
from typing import Annotated, get_args

from pydantic import Field, TypeAdapter, ValidationError
from pydantic_core import ErrorDetails

from service.errors import ManifestError
from service.manifest.schema import (
    MANIFEST_FILE,
    ClassifierManifest,
    Colour,
    Manifest,
    PrecisionName,
)
from service.validation import described

# Of a manifest, the labels or a palette; the longest list of classes that is known has a hundredth of it.
MAX_TEXT_BYTES = 16 << 20
_MANIFESTS: TypeAdapter[Manifest] = TypeAdapter(Annotated[Manifest, Field(discriminator="task")])
_TASKS = frozenset(task for kind in get_args(Manifest) for task in get_args(kind.model_fields["task"].annotation))
_PALETTES = TypeAdapter(tuple[Colour, ...])


class Artefact:
    """A checked artefact folder.

    Attributes:
        folder: Its path.
        manifest: What it says of itself.
        labels: Name of each class.
        palette: Colour of each class, RGB; empty for classifiers.
    """

    def __init__(
        self, folder: Path, manifest: Manifest, labels: tuple[str, ...], palette: tuple[Colour, ...] = ()
    ) -> None:
        self.folder = folder
        self.manifest = manifest
        self.labels = labels
        self.palette = palette

    def model_file(self, precision: PrecisionName) -> Path:
        """Return the path of the model file of that precision.

        Raises:
            ManifestError: The artefact has no such precision.
        """
        if precision not in self.manifest.precisions:
            have = ", ".join(self.manifest.precisions)
            setting = json.dumps({self.manifest.name: {"precision": next(iter(self.manifest.precisions))}})
            raise ManifestError(
                f"{self.folder} has no precision {precision}; it has {have}: set one of them for this model "
                f"(CLIPSERVE_MODELS='{setting}'), or export it with `--precision {precision}`"
            )
        return self.folder / self.manifest.precisions[precision].file


def unreadable(path: Path, error: OSError) -> str:
    """Return for people which file or folder cannot be read, by whom and why; `path` where the system names none."""
    user = f" by user id {os.geteuid()}" if isinstance(error, PermissionError) else ""
    return f"{error.filename or path} cannot be read{user}: {error.strerror or error}"


def open_file(path: Path) -> BufferedReader:
    """Open a regular file, or what a link says is one, for reading.

    Raises:
        OSError: It cannot be opened.
        ManifestError: It is something else: a pipe or a device could block the reader, or never end.
    """
    try:
        # Without waiting for the other end of a pipe.
        descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError as error:
        if error.errno == errno.ENXIO:  # a socket
            raise ManifestError(f"{path} is no regular file, and nothing else is read") from error
        raise
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        raise ManifestError(f"{path} is no regular file, and nothing else is read")
    return os.fdopen(descriptor, "rb")


def _read_text(path: Path) -> bytes:
    """Return the content of one of an artefact's small files.

    Raises:
        OSError: It cannot be read.
        ManifestError: It is no regular file, or too large.
    """
    with open_file(path) as file:
        content = file.read(MAX_TEXT_BYTES + 1)
    if len(content) > MAX_TEXT_BYTES:
        raise ManifestError(
            f"{path} has {path.stat().st_size} bytes; the limit is {MAX_TEXT_BYTES}: it is not what was exported"
        )
    return content


def sha256_of(path: Path) -> str:
    """Return the hexadecimal SHA-256 of a regular file's content.

    Raises:
        OSError, ManifestError: As `open_file`.
    """
    with open_file(path) as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def read_artefact(folder: Path) -> Artefact:
    """Read and check an artefact folder, every digest included.

    Raises:
        ManifestError: Something is missing, invalid or not what the manifest says; the message names file and reason.
    """
    try:
        return _read_artefact(folder)
    except OSError as error:
        raise ManifestError(unreadable(folder, error)) from error


def _read_artefact(folder: Path) -> Artefact:
    path = folder / MANIFEST_FILE
    try:
        manifest = _MANIFESTS.validate_json(_read_text(path))
    except FileNotFoundError as error:
        raise ManifestError(f"{folder} holds no {MANIFEST_FILE}; write one with `clipserve export`") from error
    except ValidationError as error:
        raise ManifestError(f"{path} is not a valid manifest: {_problems(error)}") from error
    if (folder.parent.name, folder.name) != (manifest.name, manifest.version):
        raise ManifestError(
            f"{path} is of {manifest.full_name}: the folder must be named so; for another name or number "
            "export it with `clipserve export --name MODEL --version N`"
        )
    for file, expected in manifest.files.items():
        if not (folder / file).exists():
            raise ManifestError(f"{folder / file} is missing")
        if sha256_of(folder / file) != expected:
            raise ManifestError(f"{folder / file} is not the file that was exported (sha256 differs); export it again")
    labels = _read_labels(folder / manifest.labels)
    if len(labels) != manifest.num_classes:
        raise ManifestError(f"{folder / manifest.labels} has {len(labels)} labels for {manifest.num_classes} classes")
    return Artefact(folder, manifest, labels, _read_palette(folder, manifest))


def _read_labels(path: Path) -> tuple[str, ...]:
    try:
        text = _read_text(path).decode()
    except UnicodeDecodeError as error:
        raise ManifestError(f"{path} is not UTF-8 ({error.reason} at byte {error.start}): write it in UTF-8") from error
    return label_lines(text)


def label_lines(text: str) -> tuple[str, ...]:
    """Return the lines of a file of labels, of which the last may end with the file."""
    # Not str.splitlines, which ends lines at characters that a name may hold.
    lines = text.split("\n")
    if not lines[-1]:
        lines.pop()
    return tuple(line.removesuffix("\r") for line in lines)


def _problems(error: ValidationError) -> str:
    """Return everything that is wrong with a file, in one line."""
    return "; ".join(described(item, _place(item)) for item in error.errors())


def _place(item: ErrorDetails) -> str:
    if item["type"].startswith("union_tag"):
        return "task"
    # The first part of a place in a manifest is its task.
    return ".".join(str(part) for part in item["loc"] if part not in _TASKS)


def _read_palette(folder: Path, manifest: Manifest) -> tuple[Colour, ...]:
    if isinstance(manifest, ClassifierManifest):
        return ()
    path = folder / manifest.palette
    try:
        palette = _PALETTES.validate_json(_read_text(path))
    except ValidationError as error:
        raise ManifestError(f"{path} is not a valid palette: {_problems(error)}") from error
    if len(palette) != manifest.num_classes:
        raise ManifestError(f"{path} has {len(palette)} colours for {manifest.num_classes} classes")
    return palette

"""The files that an artefact is made from, and the tools that make it."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import export
import models
from export.errors import ExportError
from service import manifest
from service.manifest import Checkpoint, sha256_of

# What decides of the service whether a file passes: what an artefact is, and what decodes clips and runs files.
_SERVICE_CODE = ("manifest", "media", "runtimes")
_TOOLS = ("torch", "onnx", "onnx-ir", "onnxscript", "onnxruntime", "onnxruntime-gpu", "clipserve")
# What the pixels of clips come from, which int8 takes its ranges from and every file is measured on.
_DECODERS = ("av", "numpy", "opencv-python-headless", "pillow")


@dataclass(frozen=True)
class Sources:
    """The files that an artefact is made from, and what they were when they were looked at.

    Attributes:
        checkpoint_file: The weights; None: untrained ones.
        calibration: Folder of media files; None: none were used.
        checkpoint: Name and digest of the weights.
        clips: SHA-256 over the names and digests of the media files.
    """

    checkpoint_file: Path | None
    calibration: Path | None
    checkpoint: Checkpoint | None
    clips: str | None

    @classmethod
    def look_at(cls, checkpoint_file: Path | None, calibration: Path | None) -> Sources:
        """Take note of what the files are now.

        Raises:
            OSError: One cannot be read.
        """
        checkpoint = clips = None
        if checkpoint_file is not None:
            # A name in another encoding than the system's is none of JSON's.
            name = checkpoint_file.name.encode(errors="backslashreplace").decode()
            checkpoint = Checkpoint(file=name, sha256=sha256_of(checkpoint_file))
        if calibration is not None:
            clips = _digest_of_folder(calibration)
        return cls(checkpoint_file, calibration, checkpoint, clips)

    @property
    def readers(self) -> tuple[str, ...]:
        """Distributions whose versions decide what is read from the files."""
        return () if self.clips is None else _DECODERS

    def check_unchanged(self) -> None:
        """Go on if the files are still what they were.

        Raises:
            ExportError: One has been changed or removed.
        """
        try:
            same = Sources.look_at(self.checkpoint_file, self.calibration) == self
        except OSError:
            same = False
        if not same:
            given = " or ".join(str(path) for path in (self.checkpoint_file, self.calibration) if path)
            raise ExportError(f"{given} changed while it was read: export again when it is complete")


def files_in(folder: Path) -> list[Path]:
    """Return the files of a calibration folder that are read, by name; what begins with a dot is a file manager's."""
    return sorted(file for file in folder.iterdir() if file.is_file() and not file.name.startswith("."))


def _digest_of_folder(folder: Path) -> str:
    lines = (os.fsencode(f"{file.name}\0{sha256_of(file)}\n") for file in files_in(folder))
    return hashlib.sha256(b"".join(lines)).hexdigest()


def tool_versions(others: Iterable[str] = ()) -> dict[str, str]:
    """Return the versions of what exports and verifies, `others` included, and a digest of the code of our own."""
    versions = {}
    for tool in (*_TOOLS, *sorted(others)):
        with suppress(PackageNotFoundError):
            versions[tool] = version(tool)
    return {**versions, "code": _digest_of_code()}


def _digest_of_code() -> str:
    digest, service = hashlib.sha256(), Path(str(manifest.__file__)).parents[1]
    own = [Path(str(package.__file__)).parent for package in (models, export)]
    for folder in (*own, *(service / part for part in _SERVICE_CODE)):
        for file in sorted(folder.rglob("*.py")):
            digest.update(file.read_bytes())
    return digest.hexdigest()[:16]

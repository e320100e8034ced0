"""What lies in a repository folder, and the marks by which a change of it is seen."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator
from dataclasses import dataclass
from errno import EACCES, ELOOP, ENOENT, ENOTDIR, EPERM
from pathlib import Path

from service.errors import ManifestError
from service.manifest import MANIFEST_FILE, MAX_TEXT_BYTES, open_file, parse_version, unreadable

# What is gone while we look, is no folder, leads nowhere or to itself, or is not ours to read (as lost+found) is
# passed over. Any other error may be the file system's, and what is served then stays.
_PASSED_OVER = frozenset({ENOENT, ENOTDIR, ELOOP, EACCES, EPERM})
_CURE = "export one with `clipserve export NAME`, or name another folder (--repository, CLIPSERVE_REPOSITORY)"


@dataclass(frozen=True)
class Found:
    """One version of a model as it lies in the folder.

    Attributes:
        folder: Its path.
        manifest: SHA-256 of its manifest, which names that of every other file: other content has another one.
        files: Name, bytes and time of change of every file that is there; it changes as long as files are being copied.
    """

    folder: Path
    manifest: str
    files: frozenset[tuple[str, int, int]]


Versions = dict[int, Found]


def find_artefacts(repository: Path) -> dict[str, Versions]:
    """Return the versions of every model by its name, ascending.

    A folder without a manifest does not count: it may be on its way. Names that begin with a dot never do, nor those
    that could not be shown: with control characters, or in another encoding than the system's.

    Raises:
        ManifestError: The folder is missing, cannot be read, or holds no artefact.
    """
    repository = repository.absolute()
    try:
        models = {model.name: dict(sorted(_versions(model))) for model in _folders(repository)}
    except OSError as error:
        raise ManifestError(f"{unreadable(repository, error)}; {_CURE}") from error
    found = {name: models[name] for name in sorted(models) if models[name]}
    if not found:
        raise ManifestError(
            f"{repository} holds no model (looked for <name>/<version>/{MANIFEST_FILE}{_locked(repository)}): {_CURE}"
        )
    return found


def _locked(repository: Path) -> str:
    """Return what to say of the first that lies where models are looked for and cannot be read; empty: all can."""
    entries = (entry for depth in ("*", "*/*", f"*/*/{MANIFEST_FILE}") for entry in sorted(repository.glob(depth)))
    first = next((entry for entry in entries if not os.access(entry, os.R_OK)), None)
    return f"; {first} cannot be read by user id {os.geteuid()}" if first else ""


def _folders(parent: Path) -> Iterator[Path]:
    return (entry for entry in parent.iterdir() if entry.name.isprintable() and not entry.name.startswith("."))


def _versions(model: Path) -> Iterator[tuple[int, Found]]:
    try:
        for folder in _folders(model):
            number = parse_version(folder.name)
            if number is not None and (found := _look(folder)):
                yield number, found
    except OSError as error:
        if error.errno not in _PASSED_OVER:
            raise


def _look(folder: Path) -> Found | None:
    try:
        with open_file(folder / MANIFEST_FILE) as file:
            # Of one that is too large this is enough to tell it from others; loading refuses it.
            manifest = file.read(MAX_TEXT_BYTES)
        with os.scandir(folder) as entries:
            files = frozenset(mark for entry in entries if (mark := _mark(entry)))
    except OSError as error:
        if error.errno not in _PASSED_OVER:
            raise
        return None
    except ManifestError:
        # A folder, a pipe or anything else that is called so.
        return None
    return Found(folder, hashlib.sha256(manifest).hexdigest(), files)


def _mark(entry: os.DirEntry[str]) -> tuple[str, int, int] | None:
    """Return what a file's change is seen by; None of one that cannot be looked at.

    Editors lock a file by a link to nothing beside it, and what copies files renames them: the artefact is there all
    the same.
    """
    try:
        # Of what a link names: Kubernetes mounts files of a volume as links.
        stat = entry.stat()
    except OSError as error:
        if error.errno not in _PASSED_OVER:
            raise
        return None
    return entry.name, stat.st_size, stat.st_mtime_ns

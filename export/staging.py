"""Where an artefact is made, and the one rename that puts it into the repository.

Nothing else ever changes the repository's models, so that an export that ends at any point, however it ends, leaves
them as they were or has finished. A killed one leaves its folder, `.clipserve-export-*`, until the next export: beside
the repository, or inside, where the server passes it over, if that is a mount of its own or the folder above is closed.
"""

from __future__ import annotations

import fcntl
import os
import shutil
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from export.errors import ExportError
from service.manifest import parse_version

PREFIX = ".clipserve-export-"


class Staging:
    """The temporary folder of one export.

    Attributes:
        folder: Where the artefact's files are written.
    """

    def __init__(self, root: Path, repository: Path) -> None:
        self.folder = root / "artefact"
        self.folder.mkdir()
        self._root = root
        self._repository = repository

    def put_in_place(self, name: str, finish: Callable[[str], None], chosen: int | None = None) -> Path:
        """Rename the folder to `repository/<name>/<version>` and return that path.

        Args:
            name: The model's.
            finish: Called with the number of the version to write what depends on it.
            chosen: That number; None: one more than the highest there is.

        Raises:
            ExportError: The chosen version is there already.
        """
        home = self._repository / name
        # Two exports of one model must not take the same number.
        with _locked(self._root.parent):
            check_free(home, chosen)
            version = str(chosen or _next_version(home))
            finish(version)
            if home.exists():
                self.folder.rename(home / version)
            else:
                parent = self._root / name
                parent.mkdir()
                self.folder.rename(parent / version)
                parent.rename(home)
        return home / version


def check_free(home: Path, chosen: int | None) -> None:
    """Go on if a version can be put into the folder of its model; None always can.

    Raises:
        ExportError: It is there already.
    """
    if chosen is not None and os.path.lexists(home / str(chosen)):
        raise ExportError(
            f"{home / str(chosen)} is there already, and versions are never changed: give another number (--version), "
            f"or none, which makes {_next_version(home)}"
        )


def _next_version(home: Path) -> int:
    numbers = (number for entry in home.glob("*") if (number := parse_version(entry.name)))
    return max(numbers, default=0) + 1


def check_writable(repository: Path) -> None:
    """Try out, and leave nothing behind, whether an artefact can be made and put into a repository.

    Raises:
        ExportError: It is no folder, cannot be made, or cannot be written to.
    """
    try:
        is_there = repository.exists()
        if is_there and not (repository.is_dir() and os.access(repository, os.W_OK | os.X_OK)):
            raise ExportError(f"{repository} is no folder that can be written to (--out)")
        nearest = next(folder for folder in repository.absolute().parents if folder.exists())
        with tempfile.TemporaryDirectory(dir=_place(repository) if is_there else nearest):
            pass
    except OSError as error:
        raise ExportError(f"{repository} cannot be made or written to (--out): {error.strerror}") from error


@contextmanager
def staging(repository: Path) -> Iterator[Staging]:
    """Yield a temporary folder on the repository's file system; the temporary files of all modules go there as well."""
    repository.mkdir(parents=True, exist_ok=True)
    place = _place(repository)
    with _locked(place):
        _remove_leftovers(place)
        root = Path(tempfile.mkdtemp(prefix=PREFIX, dir=place))
        lock = _lock(root)
    usual = tempfile.tempdir
    scratch = root / "scratch"
    scratch.mkdir()
    tempfile.tempdir = str(scratch)
    try:
        yield Staging(root, repository)
    finally:
        tempfile.tempdir = usual
        shutil.rmtree(root, ignore_errors=True)
        os.close(lock)


def _place(repository: Path) -> Path:
    """Return the folder that the repository lies in if one rename leads from there into it, else the repository."""
    # Of `..`, or of a link, the folder that it means.
    outside = repository.resolve().parent
    beside = _mount_of(outside) == _mount_of(repository) and os.access(outside, os.W_OK)
    return outside if beside else repository


def _mount_of(folder: Path) -> str:
    """Return the kernel's number of the mount that a folder is seen through.

    No rename leads from one mount to another, though both may show the same file system, as two volumes of a container
    do.
    """
    descriptor = os.open(folder, os.O_PATH)
    try:
        facts = Path(f"/proc/self/fdinfo/{descriptor}").read_text()
    finally:
        os.close(descriptor)
    return next(line for line in facts.splitlines() if line.startswith("mnt_id:"))


def _remove_leftovers(place: Path) -> None:
    """Remove the folders of exports that run no more: the kernel has taken their locks away."""
    for leftover in place.glob(f"{PREFIX}*"):
        with suppress(OSError):
            os.close(_lock(leftover, wait=False))
            shutil.rmtree(leftover, ignore_errors=True)


@contextmanager
def _locked(folder: Path) -> Iterator[None]:
    lock = _lock(folder)
    try:
        yield
    finally:
        os.close(lock)


def _lock(folder: Path, wait: bool = True) -> int:
    """Lock a folder against other processes until the file number that is returned is closed.

    Raises:
        BlockingIOError: It is locked, and `wait` is False.
    """
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX if wait else fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BaseException:
        os.close(descriptor)
        raise
    return descriptor

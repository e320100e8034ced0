"""Where an artefact is made, and the one rename that puts it into the repository.

Nothing else ever changes the repository's models, so that an export that ends at any point, however it ends, leaves
them as they were or has finished. A killed one leaves its folder, `.clipserve-export-*`, until the next export: beside
the repository, or inside, where the server passes it over, if that is a mount of its own or the folder above is closed.

Exports never wait for each other. Which of two takes a number is settled by the rename, and that a folder belongs to a
running export is seen by a lock inside: on a regular file, as NFS shows no other host the lock of a folder.
"""

from __future__ import annotations

import errno
import fcntl
import os
import shutil
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from export.errors import ExportError
from export.space import telling_of_full_disk
from service.manifest import parse_version

PREFIX = ".clipserve-export-"
LOCK = "lock"


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
            finish: Called with the number of the version to write what depends on it; again with another if somebody
                else takes the number meanwhile.
            chosen: That number; None: one more than the highest there is.

        Raises:
            ExportError: The chosen version is there already, or nothing can be put into the folder of the model.
            OSError: A file cannot be written.
        """
        home, number = self._repository / name, 0
        while True:
            check_free(home, chosen)
            number = chosen or max(number + 1, _next_version(home))
            finish(str(number))
            _write_through(self.folder)
            try:
                self._rename(home, str(number))
            except OSError as error:
                if error.errno not in (errno.EEXIST, errno.ENOTEMPTY):
                    raise
            else:
                return home / str(number)

    def _rename(self, home: Path, version: str) -> None:
        if home.exists():
            self.folder.rename(home / version)
        else:
            parent = self._root / "model"
            parent.mkdir(exist_ok=True)
            self.folder = self.folder.rename(parent / version)
            parent.rename(home)
        _write_through_names(home, self._repository)


def check_free(home: Path, chosen: int | None) -> None:
    """Go on if a version can be put into the folder of its model, which need not be there.

    Raises:
        ExportError: The version is there already, or nothing can be put into the folder.
    """
    if os.path.lexists(home) and (obstacle := _obstacle(home)):
        raise ExportError(f"{home} {obstacle}: put a plain folder in its place, or name another repository (--out)")
    if chosen is not None and os.path.lexists(home / str(chosen)):
        raise ExportError(
            f"{home / str(chosen)} is there already, and versions are never changed: give another number (--version), "
            f"or none, which makes {_next_version(home)}"
        )


def _obstacle(home: Path) -> str:
    """Return why nothing can be renamed into what is there in place of a model's folder; empty: it can."""
    if not home.is_dir():
        return "is no folder"
    if not os.access(home, os.R_OK | os.W_OK | os.X_OK):
        return f"cannot be read and written to by user id {os.geteuid()}"
    place = _place(home.parent)
    if _mount_of(home) != _mount_of(place):
        return f"is on another file system than {place}, where artefacts are made, and no rename leads into it"
    return ""


def _next_version(home: Path) -> int:
    numbers = (number for entry in home.glob("*") if (number := parse_version(entry.name)))
    return max(numbers, default=0) + 1


def _write_through(folder: Path) -> None:
    """Have the files of a folder on the disk: a rename may get there before what was written earlier.

    Without it a power cut shortly after an export of hours could leave a version whose files are empty. It also brings
    up what network file systems say of a write only afterwards.
    """
    for file in folder.iterdir():
        _fsync(file)
    _write_through_names(folder)


def _write_through_names(*folders: Path) -> None:
    # Not every file system takes it of a folder.
    with suppress(OSError):
        for folder in folders:
            _fsync(folder)


def _fsync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def check_writable(repository: Path) -> None:
    """Try out, and leave nothing behind, whether an artefact can be made and put into a repository.

    Raises:
        ExportError: It is no folder, cannot be made, or cannot be written to.
    """
    try:
        # A link that leads nowhere is there, too.
        is_there = os.path.lexists(repository)
        if is_there and not (repository.is_dir() and os.access(repository, os.W_OK | os.X_OK)):
            raise ExportError(f"{repository} is no folder that can be written to (--out)")
        nearest = next(folder for folder in repository.absolute().parents if os.path.lexists(folder))
        with tempfile.TemporaryDirectory(dir=_place(repository) if is_there else nearest):
            pass
    except OSError as error:
        raise ExportError(f"{repository} cannot be made or written to (--out): {error.strerror}") from error


@contextmanager
def staging(repository: Path) -> Iterator[Staging]:
    """Yield a temporary folder on the repository's file system; the temporary files of all modules go there as well.

    Raises:
        ExportError: The disk is full.
        OSError: The folder cannot be made.
    """
    repository.mkdir(parents=True, exist_ok=True)
    place = _place(repository)
    _remove_leftovers(place)
    root, lock = _make_root(place)
    usual = tempfile.tempdir
    try:
        stage = Staging(root, repository)
        scratch = root / "scratch"
        scratch.mkdir()
        tempfile.tempdir = str(scratch)
        with telling_of_full_disk(place, root):
            yield stage
    finally:
        tempfile.tempdir = usual
        with suppress(OSError):
            _remove(root, lock)


def _place(repository: Path) -> Path:
    """Return the folder that the repository lies in if one rename leads from there into it, else the repository."""
    # Of `..`, or of a link, the folder that it means.
    outside = repository.resolve().parent
    beside = _mount_of(outside) == _mount_of(repository) and os.access(outside, os.W_OK)
    return outside if beside else repository


def _mount_of(folder: Path) -> str:
    """Return the kernel's numbers of the mount that a folder is seen through and of the device that it is on.

    No rename leads from one mount to another, though both may show the same file system, as two volumes of a container
    do; nor from one subvolume of Btrfs to another, though both may be seen through one mount.
    """
    descriptor = os.open(folder, os.O_PATH)
    try:
        facts, device = Path(f"/proc/self/fdinfo/{descriptor}").read_text(), os.fstat(descriptor).st_dev
    finally:
        os.close(descriptor)
    return f"{next(line for line in facts.splitlines() if line.startswith('mnt_id:'))} device: {device}"


def _make_root(place: Path) -> tuple[Path, int]:
    """Return a new folder and the file number of its lock, as `_lock` does."""
    while True:
        root = Path(tempfile.mkdtemp(prefix=PREFIX, dir=place))
        # Until it is locked, another export that starts now takes it for a leftover.
        with suppress(FileNotFoundError, BlockingIOError):
            return root, _lock(root, os.O_CREAT)


def _remove_leftovers(place: Path) -> None:
    """Remove the folders of exports that run no more: the kernel has taken their locks away."""
    for leftover in place.glob(f"{PREFIX}*"):
        if leftover.is_symlink():
            # None of ours; what it leads to is not to be removed.
            continue
        with suppress(OSError):
            _remove(leftover, _lock(leftover))
        # One that was killed before it had a lock had nothing else.
        with suppress(OSError):
            leftover.rmdir()


def _remove(root: Path, lock: int) -> None:
    """Remove a locked folder, the lock last: what has none is not known to be a leftover.

    Raises:
        OSError: Something in it cannot be removed.
    """
    try:
        for entry in root.iterdir():
            if entry.name != LOCK:
                shutil.rmtree(entry)
        (root / LOCK).unlink()
    finally:
        os.close(lock)
    root.rmdir()


def _lock(root: Path, flags: int = 0) -> int:
    """Lock a folder against other processes until the file number that is returned is closed.

    Args:
        root: The folder.
        flags: os.O_CREAT if it has no lock yet.

    Raises:
        BlockingIOError: It is locked.
        FileNotFoundError: It has no lock, or has just been removed.
        OSError: It cannot be locked.
    """
    # NFS takes an exclusive lock only of a file that is open for writing.
    descriptor = os.open(root / LOCK, os.O_RDWR | flags, 0o600)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        # Whoever had it before may have removed the file.
        os.stat(root / LOCK)
    except BaseException:
        os.close(descriptor)
        raise
    return descriptor

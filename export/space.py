"""Tell of a full disk where what fails for it does not."""

from __future__ import annotations

import errno
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from export.errors import ExportError

_FULL = (os.strerror(errno.ENOSPC), os.strerror(errno.EDQUOT))
# Bytes for each that is there already: quantising copies the float32 file three times and more.
_ROOM = 5
# What the system says of a write without naming the file.
_OF_WRITING = (errno.EFBIG, errno.EIO, errno.EROFS)
_CURE = "make room there, or name a repository on another disk (--out)"


@contextmanager
def telling_of_full_disk(place: Path, root: Path) -> Iterator[None]:
    """Raise an ExportError that names the folder if what is done inside fails for want of space there.

    A write that fails names no file in Python; the libraries in C++ leave half a file, and fail over it later in words
    of their own, when their temporary files are gone and there is room again.

    Args:
        place: The folder to tell of.
        root: The one in it that everything is written in.

    Raises:
        ExportError: The disk is full, or so nearly that this will be why; or the system says what is wrong, and not
            where.
    """
    try:
        yield
    except Exception as error:
        free = shutil.disk_usage(place).free
        if any(words in str(error) for words in _FULL):
            raise ExportError(f"no space left for the temporary files in {place}: {_CURE}") from error
        if isinstance(error, OSError) and error.filename is None and error.errno in _OF_WRITING:
            raise ExportError(f"{error} (temporary files lie in {place})") from error
        if _is_unforeseen(error) and free < _ROOM * _bytes_in(root):
            raise ExportError(
                f"{place} has only {free / 1e6:.1f} MB left for temporary files, probably too little: {_CURE}; "
                f"{type(error).__name__}: {error}"
            ) from error
        raise


def _bytes_in(folder: Path) -> int:
    return sum(path.lstat().st_size for path in folder.rglob("*") if path.is_file())


def _is_unforeseen(error: Exception) -> bool:
    return not isinstance(error, (ExportError, OSError))

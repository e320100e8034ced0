"""How the demo keeps what takes long to make."""

from __future__ import annotations

import hashlib
import inspect
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType
from typing import BinaryIO


@contextmanager
def replacing(file: Path) -> Iterator[BinaryIO]:
    """Yield a new file to write, which takes the place of `file` once it is whole.

    Whatever ends the block early, an interrupt too, leaves `file` as it was. The folder is made if missing.
    """
    file.parent.mkdir(parents=True, exist_ok=True)
    # The suffix keeps what a killed process leaves behind from being taken for the real thing.
    temporary = file.with_name(f".{file.name}.{os.getpid()}")
    try:
        with temporary.open("wb") as content:
            yield content
        temporary.replace(file)
    finally:
        temporary.unlink(missing_ok=True)


def source_digest(*parts: ModuleType | Callable[..., object], settings: object = None) -> str:
    """Return eight digits for the name of what is kept, so that it is made anew when the code that makes it changes.

    Args:
        parts: Modules and functions whose source counts.
        settings: A value whose text counts too.
    """
    sources = [inspect.getsource(part) for part in parts]
    return hashlib.sha256("\0".join([*sources, repr(settings)]).encode()).hexdigest()[:8]

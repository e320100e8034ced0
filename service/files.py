"""Files that are whole or not there, whoever reads them meanwhile and whatever ends their writer."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO


@contextmanager
def replacing(file: Path) -> Iterator[IO[bytes]]:
    """Yield a new file beside `file`, for this user alone, which takes its place when the block ends.

    If the block raises, nothing is left of the new one and `file` is as it was.

    Raises:
        OSError: It cannot be written.
    """
    with tempfile.NamedTemporaryFile(dir=file.parent, prefix=f".{file.name}.", delete=False) as new:
        try:
            yield new
            new.flush()
            os.replace(new.name, file)
        except BaseException:
            os.unlink(new.name)
            raise

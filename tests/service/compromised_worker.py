"""A decode worker that runs its uploads as Python code: what one can do that hostile media has taken over.

Everything but that is the worker itself: its start, its sandbox, its protocol. What the code puts into `result`, or its
OSError or RuntimeError, comes back as the detail of a BadParameterError.
"""

from collections.abc import Callable
from typing import Any, BinaryIO, NoReturn

import numpy as np
from numpy.typing import NDArray

from service.errors import BadParameterError
from service.media import worker
from service.media.types import DecodeRequest


def run(file: BinaryIO, request: DecodeRequest, allocate: Callable[[tuple[int, ...]], NDArray[np.uint8]]) -> NoReturn:
    names: dict[str, Any] = {"file": file}
    file.seek(0)
    try:
        exec(file.read(), names)
    except (OSError, RuntimeError) as error:
        raise BadParameterError(f"{type(error).__name__}: {error}") from error
    raise BadParameterError(f"done: {names.get('result')}")


if __name__ == "__main__":
    worker.decode_views = run
    worker.main()

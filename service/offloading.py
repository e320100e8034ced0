"""Work that takes long only where there is much of it: in a thread then, so that the event loop goes on."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import ParamSpec, TypeVar

P = ParamSpec("P")
T = TypeVar("T")

# Handled in less time than another thread takes to be asked and to answer, or little more.
_AT_ONCE_BYTES = 65536


async def off_loop(size: int, work: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
    """Return what `work` returns, called in a thread if the `size` bytes that it handles are many."""
    if size <= _AT_ONCE_BYTES:
        return work(*args, **kwargs)
    return await asyncio.to_thread(work, *args, **kwargs)

"""Send uploads to a real decode worker and look at what becomes of them."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from service.media.types import DecodeResult
from service.media.worker_process import Decoded
from tests.service.test_pool import decode_in, pool

Decode = Callable[..., Decoded[DecodeResult]]


@contextmanager
def decode_worker() -> Iterator[Decode]:
    """Yield a function that has one worker decode an upload, with a request of its own or the usual one."""
    with asyncio.Runner() as runner:
        context = pool()
        running = runner.run(context.__aenter__())

        def decode(content: bytes, request: Any = None) -> Decoded[DecodeResult]:
            return runner.run(decode_in(running, content, request))

        try:
            yield decode
        finally:
            runner.run(context.__aexit__(None, None, None))

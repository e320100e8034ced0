"""What happens where the kernel has nothing left for one more request: it is refused, and the rest goes on."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager

from service.errors import QueueFullError

logger = logging.getLogger(__name__)


@contextmanager
def shedding() -> Iterator[None]:
    """Refuse the request where the kernel refuses the server what the block asks for; a lost connection is let pass.

    Raises:
        QueueFullError: There are no file descriptors or memory left.
    """
    try:
        yield
    except ConnectionError:
        raise
    except OSError as error:
        logger.error("an upload was refused: %s", error)
        raise QueueFullError(
            f"the server has nothing left to take one more upload with ({error.strerror}); try again later",
            retry_after=1,
        ) from error

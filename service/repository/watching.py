"""Follow the repository folder while the server runs. Looking again and again works on network file systems too."""

from __future__ import annotations

import asyncio
import logging

from service.errors import ManifestError
from service.repository.registry import Repository

logger = logging.getLogger(__name__)


async def watch(repository: Repository, interval: float) -> None:
    """Load what appears in the folder and unload what goes from it, looking every `interval` seconds, for ever."""
    said = ""
    while True:
        await asyncio.sleep(interval)
        problem = ""
        try:
            await repository.update()
        except ManifestError as error:
            problem = str(error)
        except Exception:
            # Whatever it was, the next look may find better.
            logger.exception("the repository could not be followed")
        if problem and problem != said:
            logger.error("what is served stays as it is: %s", problem)
        said = problem

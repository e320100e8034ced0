"""Who may change what is served."""

from __future__ import annotations

from service.errors import ForbiddenError


async def require_admin() -> None:
    """Let a request go on if it may change the server.

    Raises:
        ForbiddenError: No key that may is configured.
    """
    raise ForbiddenError("models are loaded and unloaded with an admin key, and none is configured")

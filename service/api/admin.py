"""What only operators may do."""

from __future__ import annotations

from fastapi import Request

from service.api.authentication import shown_key
from service.api.state import server_state
from service.errors import ForbiddenError


async def require_admin(request: Request) -> None:
    """Go on if the request came with an admin key; a dependency of every route that changes what is served.

    Without any key configured nobody may: a server that is open for asking is not open for changing.

    Raises:
        ForbiddenError: It did not.
    """
    if not any(key.admin for key in server_state(request).settings.api_keys):
        raise ForbiddenError(
            "this needs an admin key, and the server has none: make one with `clipserve key NAME --admin` "
            "and add it to the server's configuration"
        )
    key = shown_key(request)
    if key is None or not key.admin:
        raise ForbiddenError(f"the key `{key.name}` is no admin key" if key else "this needs an admin key")

"""An answer whose request lasts until the client has taken it."""

from __future__ import annotations

from fastapi import Response
from starlette.types import Receive, Scope, Send


class DeliveredResponse(Response):
    """A response that is over when all of it has left for the client, not when it only waits to be sent.

    The connection takes the end of a body when what came before it is gone; so the end comes by itself.
    """

    async def __call__(self, _scope: Scope, _receive: Receive, send: Send) -> None:
        """Send the answer."""
        await send({"type": "http.response.start", "status": self.status_code, "headers": self.raw_headers})
        await send({"type": "http.response.body", "body": self.body, "more_body": True})
        await send({"type": "http.response.body"})

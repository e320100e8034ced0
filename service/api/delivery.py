"""An answer whose request lasts until the client has taken it."""

from __future__ import annotations

from collections.abc import Mapping

from fastapi import Response
from starlette.types import Receive, Scope, Send

# Bytes that are given to the connection at a time. It keeps what the client does not take at once in a buffer of its
# own, copied while nothing else runs, and so no large part of the body is to be there.
_PART = 262_144


class DeliveredResponse(Response):
    """A response that is over when all of it has left for the client, not when it only waits to be sent.

    Args:
        parts: The body: one piece, or several that are sent one after the other.
        media_type, headers: As of any response.

    Attributes:
        parts: As given.
        size: Bytes of the body.
    """

    def __init__(
        self, *parts: bytes | memoryview, media_type: str | None = None, headers: Mapping[str, str] | None = None
    ) -> None:
        self.parts = parts
        self.size = sum(len(part) for part in parts)
        super().__init__(media_type=media_type, headers={**(headers or {}), "Content-Length": str(self.size)})

    async def __call__(self, _scope: Scope, _receive: Receive, send: Send) -> None:
        """Send the answer, the next of it when the connection is rid of what came before."""
        await send({"type": "http.response.start", "status": self.status_code, "headers": self.raw_headers})
        for part in self.parts:
            view = memoryview(part)
            for begin in range(0, len(view), _PART):
                await send({"type": "http.response.body", "body": view[begin : begin + _PART], "more_body": True})
        # The connection takes the end when the rest is gone; so the end comes by itself.
        await send({"type": "http.response.body"})

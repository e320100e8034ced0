"""Answer HEAD wherever GET is answered, as RFC 9110 section 9.1 wants it: load balancers and probes ask so."""

from __future__ import annotations

from starlette.types import ASGIApp, Message, Receive, Scope, Send


class HeadAsGet:
    """ASGI middleware right around the routes, to which a HEAD is a GET; whoever sends the answer drops its body."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or scope["method"] != "HEAD":
            await self._app(scope, receive, send)
            return

        async def answer(message: Message) -> None:
            scope["method"] = "HEAD"
            await send(message)

        # In place: what is outside reads from the same scope which route it was.
        scope["method"] = "GET"
        try:
            await self._app(scope, receive, answer)
        finally:
            scope["method"] = "HEAD"

"""Answer HEAD wherever GET is answered, as RFC 9110 section 9.1 wants it: load balancers and probes ask so."""

from __future__ import annotations

from http import HTTPStatus

from starlette.datastructures import MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send


class HeadAsGet:
    """ASGI middleware right around the routes, to which a HEAD is a GET; whoever sends the answer drops its body."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        method = scope["method"]

        async def answer(message: Message) -> None:
            scope["method"] = method
            if message["type"] == "http.response.start" and message["status"] == HTTPStatus.METHOD_NOT_ALLOWED:
                _allow_head(MutableHeaders(scope=message))
            await send(message)

        # In place: what is outside reads from the same scope which route it was.
        scope["method"] = "GET" if method == "HEAD" else method
        try:
            await self._app(scope, receive, answer)
        finally:
            scope["method"] = method


def _allow_head(headers: MutableHeaders) -> None:
    """Name HEAD beside GET among what the path takes."""
    allowed = headers.get("Allow", "").split(", ")
    if "GET" in allowed:
        headers["Allow"] = ", ".join([*allowed, "HEAD"])

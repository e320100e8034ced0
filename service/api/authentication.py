"""Ask every request for a key, before anything of it is looked at."""

from __future__ import annotations

from fastapi import Request
from starlette.datastructures import Headers
from starlette.types import ASGIApp, Receive, Scope, Send

from service.api.probes import PROBES
from service.context import current_request
from service.errors import UnauthorizedError
from service.keyring import Keyring
from service.settings import ApiKey

# Whatever is not here, whole path by whole path, needs a key: a new route does before anybody thinks of it.
# Probes learn no more than whether the server works.
OPEN_PATHS = PROBES | frozenset(
    {
        # The page, which asks for a key itself, and the description of the API: the same on every server.
        "/",
        "/web/page.css",
        "/web/page.js",
        "/web/icon.svg",
        "/docs",
        "/openapi.json",
    }
)
_SCHEME = b"bearer"


class Authentication:
    """ASGI middleware in front of every route; the body of a refused request is never asked for.

    Args:
        app: What it wraps; whatever is outside turns a ServiceError into an answer.
        keyring: The keys.
    """

    def __init__(self, app: ASGIApp, keyring: Keyring) -> None:
        self._app = app
        self._keyring = keyring

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http" and scope["path"] not in OPEN_PATHS:
            key = self._authenticate(scope)
            Request(scope).state.api_key = key
            if request := current_request():
                request.key = key.name
            self._keyring.count_request(key)
        await self._app(scope, receive, send)

    def _authenticate(self, scope: Scope) -> ApiKey:
        given = Headers(scope=scope).get("authorization")
        if given is None:
            raise UnauthorizedError("this server wants a key: send it as `Authorization: Bearer <key>`")
        scheme, _, shown = given.encode("latin-1").strip().partition(b" ")
        key = self._keyring.find(shown.strip()) if scheme.lower() == _SCHEME else None
        if key is None:
            raise UnauthorizedError(
                "the server does not know the key in `Authorization`: send one of its own as `Bearer <key>`"
            )
        return key


def shown_key(request: Request) -> ApiKey | None:
    """Return the key that `request` came with; None: the server has none, or wants none on this path."""
    key: ApiKey | None = getattr(request.state, "api_key", None)
    return key

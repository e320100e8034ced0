"""Give every request an id, every answer its headers, and count and log what was answered."""

from __future__ import annotations

import logging
import re
from time import perf_counter
from urllib.parse import quote

from starlette.datastructures import Headers, MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from service.api.probes import is_polled
from service.api.route_names import RouteNames
from service.context import RequestContext, begin_request
from service.metrics import Metrics

logger = logging.getLogger(__name__)

REQUEST_ID = "X-Request-Id"
# Of the model that gave a result: its name and its version.
MODEL_HEADERS = ("Clipserve-Model", "Clipserve-Version")
_LONGEST_PATH = 256
_FIRST_ERROR = 400
# What may stand in a log line and a header; anything else that a client sends is replaced.
_SOUND_ID = re.compile(r"[A-Za-z0-9._:-]{1,128}")


def context_of(headers: Headers) -> RequestContext:
    """Return the context of a new request with those headers: it has the id that they give, or a new one."""
    given = headers.get(REQUEST_ID, "")
    return RequestContext(given) if _SOUND_ID.fullmatch(given) else RequestContext()


class Access:
    """ASGI middleware; it passes messages through untouched but for headers, so that a handler sees a client go away.

    Args:
        app: What it wraps.
        metrics: Where answers are counted by route and status.
        routes: What they are called.
        log: Whether each answer gets a line in the log.
    """

    def __init__(self, app: ASGIApp, metrics: Metrics, routes: RouteNames, log: bool) -> None:
        self._app = app
        self._routes = routes
        self._metrics = metrics
        self._log = log

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        began = perf_counter()
        request = context_of(Headers(scope=scope))
        # Each request runs in a task of its own, which ends with it.
        begin_request(request)

        async def answer(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                headers[REQUEST_ID] = request.id
                if request.stages:
                    headers["Server-Timing"] = _server_timing(request.stages)
                status = message["status"]
                if (asked := request.name_and_version) and status < _FIRST_ERROR:
                    headers.update(dict(zip(MODEL_HEADERS, asked, strict=True)))
                route = self._routes.of(scope)
                self._metrics.requests.labels(route, str(status)).inc()
                if self._log and (status >= _FIRST_ERROR or not is_polled(scope["path"])):
                    _log_answer(scope, route, status, request.error, perf_counter() - began)
            await send(message)

        await self._app(scope, receive, answer)


def _server_timing(stages: dict[str, float]) -> str:
    """Return the value of the header of that name (W3C): milliseconds by stage."""
    return ", ".join(f"{stage};dur={seconds * 1000:.1f}" for stage, seconds in stages.items())


def _log_answer(scope: Scope, route: str, status: int, code: str | None, seconds: float) -> None:
    method, path = scope["method"], _shown(scope["path"])
    fields = {"method": method, "route": route, "path": path, "status": status, "seconds": round(seconds, 6)}
    # Over a Unix socket there is no address.
    if scope.get("client"):
        fields["client"] = scope["client"][0]
    if code is not None:
        fields["code"] = code
    outcome = status if code is None else f"{status} {code}"
    logger.info("%s %s %s %.3f s", method, path, outcome, seconds, extra={"fields": fields})


def _shown(path: str) -> str:
    """Return a path as it may stand in a line of the log: escaped as in a URL, and of a length that has an end."""
    shown = quote(path[: _LONGEST_PATH + 1], safe="/:@+,")
    return shown if len(shown) <= _LONGEST_PATH else f"{shown[:_LONGEST_PATH]}..."

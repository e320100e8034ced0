"""Turn exceptions into answers: application/problem+json (RFC 9457), under /v2 the Open Inference Protocol's form."""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable
from http import HTTPStatus

from fastapi import FastAPI, Request, Response
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from pydantic import BaseModel, ConfigDict
from pydantic_core import ErrorDetails
from starlette.exceptions import HTTPException
from starlette.middleware.exceptions import ExceptionMiddleware
from starlette.requests import ClientDisconnect

from service.api.probes import is_probe
from service.context import current_request, request_id
from service.errors import (
    BadParameterError,
    InternalError,
    ServiceError,
    UnauthorizedError,
    UploadStalledError,
    WorkerLostError,
)
from service.metrics import Metrics
from service.validation import described, meant

logger = logging.getLogger(__name__)

# What RFC 9110 wants to stand beside a 401: how to authenticate.
CHALLENGE = 'Bearer realm="clipserve"'
MEDIA_TYPE = "application/problem+json"
PROTOCOL_PREFIX = "/v2"
# Nobody reads this answer; the number, nginx's, is for the logs.
CLIENT_CLOSED_REQUEST = 499


class Problem(BaseModel):
    """An error answer.

    Attributes:
        type: Stable URN of the code.
        title: The same for every occurrence of the code.
        status: HTTP status.
        detail: What happened, the limit and what to do.
        code: Stable code for programs.
        request_id: As in the header X-Request-Id and in the server's log.
    """

    model_config = ConfigDict(extra="forbid")

    type: str
    title: str
    status: int
    detail: str
    code: str
    request_id: str


def _service_answer(request: Request, error: ServiceError) -> JSONResponse:
    detail = error.detail
    if isinstance(error, InternalError) and not isinstance(error, WorkerLostError):
        detail = _hidden(error)
    headers = {} if error.retry_after is None else {"Retry-After": str(error.retry_after)}
    if isinstance(error, UploadStalledError):
        # The rest of the body may still come; nobody will read it.
        headers["Connection"] = "close"
    if isinstance(error, UnauthorizedError):
        headers["WWW-Authenticate"] = CHALLENGE
    return _answer(request, error.code, error.title, error.status, detail, headers)


def _wrong(request: Request, item: ErrorDetails) -> str:
    """Return what is wrong with a parameter of the query, or in the body."""
    place, *within = item["loc"]
    name = ".".join(map(str, within))
    if place != "query" or item["type"] != "extra_forbidden":
        return described(item, name)
    parameters = request.scope["route"].dependant.query_params
    known = [field for parameter in parameters for field in parameter.field_info.annotation.model_fields]
    return f"{name:.80}: no parameter is called so; {meant(name, known)}"


def _hidden(error: BaseException) -> str:
    """Log a fault with an id and return the fixed text that a client gets."""
    logger.error("internal error in request %s", request_id(), exc_info=error)
    return f"something went wrong on our side; the server's log has more under {request_id()}"


def _answer(request: Request, code: str, title: str, status: int, detail: str, headers: dict[str, str]) -> JSONResponse:
    if context := current_request():
        context.error = code
    return error_answer(request.url.path, code, title, status, detail, headers)


def error_answer(path: str, code: str, title: str, status: int, detail: str, headers: dict[str, str]) -> JSONResponse:
    """Return the answer to a request that failed, in the form that its path asks for."""
    if f"{path}/".startswith(f"{PROTOCOL_PREFIX}/"):
        return JSONResponse({"error": detail}, status, headers)
    problem = Problem(
        type=f"urn:clipserve:problem:{code}",
        title=title,
        status=status,
        detail=detail,
        code=code,
        request_id=request_id(),
    )
    return JSONResponse(problem.model_dump(), status, headers, MEDIA_TYPE)


def install_problem_handlers(app: FastAPI, metrics: Metrics) -> None:
    """Make every error of `app` an answer of the form that its path asks for, and count the refused requests.

    Errors of what is added to `app` as middleware afterwards are not among them.
    """

    async def on_service_error(request: Request, error: Exception) -> JSONResponse:
        assert isinstance(error, ServiceError)
        # A probe that is told "not ready" has been answered, and comes again and again.
        if not is_probe(request.url.path):
            metrics.rejected.labels(error.code).inc()
        return _service_answer(request, error)

    async def on_bad_parameters(request: Request, error: Exception) -> JSONResponse:
        assert isinstance(error, RequestValidationError)
        details = "; ".join(_wrong(request, item) for item in error.errors())
        return await on_service_error(request, BadParameterError(details))

    async def on_http_exception(request: Request, error: Exception) -> JSONResponse:
        assert isinstance(error, HTTPException)
        title = HTTPStatus(error.status_code).phrase
        code = title.lower().replace(" ", "_")
        metrics.rejected.labels(code).inc()
        detail = str(error.detail)
        if detail == title:
            detail = f"{request.method} {request.url.path:.200}: {title.lower()}; /docs lists everything that there is"
        return _answer(request, code, title, error.status_code, detail, dict(error.headers or {}))

    async def on_anything_else(request: Request, error: Exception) -> JSONResponse:
        metrics.rejected.labels(InternalError.code).inc()
        return _answer(request, InternalError.code, InternalError.title, InternalError.status, _hidden(error), {})

    async def on_client_gone(_request: Request, _error: Exception) -> Response:
        metrics.rejected.labels("client_gone").inc()
        return Response(status_code=CLIENT_CLOSED_REQUEST)

    handlers: dict[type[Exception], Callable[[Request, Exception], Awaitable[Response]]] = {
        ClientDisconnect: on_client_gone,
        ServiceError: on_service_error,
        RequestValidationError: on_bad_parameters,
        HTTPException: on_http_exception,
    }
    for kind, handler in handlers.items():
        app.add_exception_handler(kind, handler)
    # For the errors of middleware, and for what nobody expects: the framework would answer that outside of all
    # middleware, where nothing counts it or adds headers.
    app.add_middleware(ExceptionMiddleware, handlers={**handlers, Exception: on_anything_else})

"""Tie a request to its trace: the id into its log lines, its stages below the span that the framework has opened."""

from __future__ import annotations

from time import perf_counter

from opentelemetry.trace import SpanContext, Tracer, format_span_id, format_trace_id, get_current_span
from starlette.datastructures import MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from service.api.probes import is_polled
from service.context import Stage, current_request
from service.tracing import add_stage_spans

# Tells a client which trace and span its request became (W3C, Trace Context Level 2), also where it brought none.
TRACE_RESPONSE = "traceresponse"


def is_untraced(scope: Scope) -> bool:
    """Whether a request gets no span: those that machines repeat would bury the others."""
    return is_polled(scope.get("path", ""))


def _trace_response(context: SpanContext) -> str:
    return f"00-{format_trace_id(context.trace_id)}-{format_span_id(context.span_id)}-{context.trace_flags:02x}"


class Tracing:
    """ASGI middleware, inside of the one that begins the request's context and outside of what answers its errors.

    Args:
        app: What it wraps.
        tracer: Makes the spans of the stages.
    """

    def __init__(self, app: ASGIApp, tracer: Tracer) -> None:
        self._app = app
        self._tracer = tracer

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        span, request = get_current_span(), current_request()
        if request is None or not span.get_span_context().is_valid:
            await self._app(scope, receive, send)
            return
        context = span.get_span_context()
        request.trace_id = format_trace_id(context.trace_id)

        async def answer(message: Message) -> None:
            if message["type"] == "http.response.start":
                MutableHeaders(scope=message)[TRACE_RESPONSE] = _trace_response(context)
                if asked := request.name_and_version:
                    span.set_attributes(dict(zip(("clipserve.model", "clipserve.version"), asked, strict=True)))
                if request.error is not None:
                    span.set_attribute("error.type", request.error)
            if message["type"] == "http.response.body" and not message.get("more_body", False) and request.history:
                # The server span ends with this message, and what is below it must not end later.
                worked_until = max(stage.ended for stage in request.history)
                request.history.append(Stage("answer", worked_until, perf_counter()))
            await send(message)

        try:
            await self._app(scope, receive, answer)
        finally:
            add_stage_spans(self._tracer, span, request.history)

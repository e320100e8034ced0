"""OpenTelemetry: where spans go, and the spans of a request's stages; the framework makes that of the request."""

from __future__ import annotations

import os
from importlib import import_module
from importlib.metadata import version
from time import perf_counter_ns, time_ns
from typing import TYPE_CHECKING
from uuid import uuid4

from service.context import Stage

if TYPE_CHECKING:
    from opentelemetry.sdk.trace import TracerProvider
    from opentelemetry.trace import Span, Tracer
    from opentelemetry.util.types import AttributeValue

NAME = "clipserve"
_EXPORTER = "opentelemetry.exporter.otlp.proto.http.trace_exporter"


def check_installed(wanted: bool) -> bool:
    """Return `wanted`; what it needs is imported if it is true.

    Raises:
        ValueError: The extra is not installed.
    """
    if wanted:
        try:
            import_module(_EXPORTER)
        except ImportError as error:
            raise ValueError(f"{error.name} is not installed: pip install 'clipserve[otel]'") from error
    return wanted


def open_tracing() -> TracerProvider:
    """Return what makes spans and sends them by OTLP over HTTP, as the standard OTEL_* variables say."""
    from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
    from opentelemetry.sdk.resources import OTELResourceDetector, Resource
    from opentelemetry.sdk.trace import TracerProvider
    from opentelemetry.sdk.trace.export import BatchSpanProcessor

    own = {"service.name": NAME, "service.version": version(NAME), "service.instance.id": str(uuid4())}
    # The environment has the last word, which Resource.create would not give it.
    resource = Resource.create({**own, "process.pid": os.getpid()}).merge(OTELResourceDetector().detect())
    provider = TracerProvider(resource=resource, shutdown_on_exit=False)
    provider.add_span_processor(BatchSpanProcessor(OTLPSpanExporter()))
    return provider


def add_stage_spans(tracer: Tracer, parent: Span, stages: list[Stage]) -> None:
    """Make a span of each stage, below `parent` and with the times at which it was."""
    from opentelemetry.trace import set_span_in_context

    if not parent.is_recording() and not parent.get_span_context().trace_flags.sampled:
        return
    context = set_span_in_context(parent)
    # Stages are timed by a clock that never jumps, spans by the time of day.
    offset = time_ns() - perf_counter_ns()
    for stage in stages:
        span = tracer.start_span(stage.name, context, attributes=_about(stage), start_time=_ns(stage.began) + offset)
        span.end(_ns(stage.ended) + offset)


def _about(stage: Stage) -> dict[str, AttributeValue]:
    known: dict[str, AttributeValue | None] = {"error.type": stage.error, "clipserve.batch_size": stage.batch_size}
    return {name: value for name, value in known.items() if value is not None}


def _ns(seconds: float) -> int:
    return round(seconds * 1e9)

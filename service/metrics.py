"""Prometheus metrics, one registry a server process. Base units, low-cardinality labels."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from importlib.metadata import version
from typing import Literal, get_args

from prometheus_client import (
    CollectorRegistry,
    Counter,
    Gauge,
    Histogram,
    Info,
    ProcessCollector,
    disable_created_metrics,
    generate_latest,
)
from prometheus_client.core import GaugeMetricFamily
from prometheus_client.registry import Collector

SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 120.0)
# The time at which each series began doubles the exposition and nothing reads it.
disable_created_metrics()  # type: ignore[no-untyped-call]

BATCH_SIZES = (1, 2, 4, 8, 16, 32, 64)
LOOP_SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.02, 0.05, 0.1, 0.25, 0.5, 1.0)


# Why a batch was not fuller: it was full; its delay was over; the rest of the queue did not fit; nobody was on the way.
ClosedBy = Literal["full", "delay", "shape", "idle"]
# What ended a decode worker: the time of an upload by the clock, or of the processor; a crash; a system call that is
# forbidden; an answer that makes no sense; a caller that left it at work; an end of its own; somebody else.
LostBy = Literal["timeout", "processor_time", "crash", "sandbox", "nonsense", "abandoned", "exit", "stopped"]


class ModelMetrics:
    """What one model's batcher counts.

    Attributes:
        name: Of the model.
    """

    def __init__(self, name: str, batches: Counter, batch_size: Histogram, cancelled: Counter) -> None:
        self.name = name
        self._batches = batches
        self._batch_size = batch_size.labels(name)
        self._cancelled = cancelled.labels(name)

    def batch_run(self, views: int, closed_by: ClosedBy) -> None:
        """Count a batch of so many views."""
        self._batches.labels(self.name, closed_by).inc()
        self._batch_size.observe(views)

    def views_cancelled(self, views: int) -> None:
        """Count views that were given up by their caller."""
        self._cancelled.inc(views)


class _Measured(Collector):
    """A gauge that is measured at every scrape, so that its series come and go with what they are about."""

    def __init__(
        self, name: str, text: str, labels: Iterable[str], measure: Callable[[], Mapping[tuple[str, ...], float]]
    ) -> None:
        self._name, self._text, self._labels, self._measure = name, text, tuple(labels), measure

    def collect(self) -> Iterator[GaugeMetricFamily]:
        family = GaugeMetricFamily(self._name, self._text, labels=self._labels)
        for labels, value in self._measure().items():
            family.add_metric(labels, value)
        yield family


class Metrics:
    """The counters and histograms that the server keeps."""

    def __init__(self) -> None:
        self._registry = CollectorRegistry()
        ProcessCollector(registry=self._registry)
        build = Info("clipserve_build", "Which clipserve this is", registry=self._registry)
        build.info({"version": version("clipserve")})
        self.requests = Counter(
            "clipserve_requests", "Answers by route and status", ["route", "status"], registry=self._registry
        )
        self.rejected = Counter(
            "clipserve_requests_rejected", "Requests refused, by error code", ["reason"], registry=self._registry
        )
        self.request_seconds = self._seconds(
            "request", "From a request's beginning until the result of each of its uploads, or of its frames, was there"
        )
        self.decode_seconds = self._seconds("decode", "Decoding an upload in a worker process, also where that failed")
        self.queue_seconds = self._seconds("queue", "Waiting for a decode worker and for a batch, of the same")
        self.inference_seconds = self._seconds("inference", "Running batches, of the same")
        self.clips = Counter(
            "clipserve_clips", "Uploads answered (a picture counts as one)", ["model"], registry=self._registry
        )
        self.views = Counter("clipserve_views", "Views run", ["model"], registry=self._registry)
        self._cancelled = Counter(
            "clipserve_views_cancelled",
            "Views given up before they had run: client gone, deadline, or another view of the request failed",
            ["model"],
            registry=self._registry,
        )
        self._batches = Counter(
            "clipserve_batches",
            "Batches run, by why they were not fuller (full, delay, shape, idle)",
            ["model", "closed_by"],
            registry=self._registry,
        )
        self.frames_decoded = Counter(
            "clipserve_frames_decoded", "Frames that decoders put out", ["model"], registry=self._registry
        )
        self.frames_needed = Counter(
            "clipserve_frames_needed", "Different frames that views were made of", ["model"], registry=self._registry
        )
        self._batch_size = Histogram(
            "clipserve_batch_size",
            "Views in a batch that was run",
            ["model"],
            buckets=BATCH_SIZES,
            registry=self._registry,
        )
        self.loop_delay_seconds = Histogram(
            "clipserve_event_loop_delay_seconds",
            "How much too late the event loop wakes up, every 50 ms",
            buckets=LOOP_SECONDS,
            registry=self._registry,
        )
        self.in_flight = Gauge("clipserve_requests_in_flight", "Requests being worked on", registry=self._registry)
        self.model_loads = Counter(
            "clipserve_model_loads",
            "Versions of models loaded, or not, by result (loaded, failed)",
            ["model", "result"],
            registry=self._registry,
        )
        self.decode_workers_lost = Counter(
            "clipserve_decode_workers_lost",
            f"Decode workers that ended and were replaced, by why ({', '.join(get_args(LostBy))})",
            ["reason"],
            registry=self._registry,
        )
        # From the beginning, so that the first one is seen as an increase.
        for reason in get_args(LostBy):
            self.decode_workers_lost.labels(reason)
        self.decode_sandboxed = Gauge(
            "clipserve_decode_sandboxed",
            "1 if the system calls of all decode workers are filtered, 0 if not",
            registry=self._registry,
        )

    def _seconds(self, what: str, text: str) -> Histogram:
        return Histogram(
            f"clipserve_{what}_duration_seconds", text, ["model"], buckets=SECONDS, registry=self._registry
        )

    def of_model(self, name: str) -> ModelMetrics:
        """Return what the batcher of model `name` counts with."""
        return ModelMetrics(name, self._batches, self._batch_size, self._cancelled)

    def measure_queues(self, depths: Callable[[], Mapping[tuple[str, ...], float]]) -> None:
        """Report the depths of the queues, by (queue, model), at every scrape."""
        text = "Waiting: uploads for a decode worker (queue decode, of no model), views for their run (batch, by model)"
        self._registry.register(_Measured("clipserve_queue_depth", text, ["queue", "model"], depths))

    def measure_versions(self, ready: Callable[[], Mapping[tuple[str, ...], float]]) -> None:
        """Report at every scrape, by (model, version), 1 for those that take requests and 0 for the others."""
        text = "Whether a version takes requests, of those that are served or lie in the repository"
        self._registry.register(_Measured("clipserve_model_version_ready", text, ["model", "version"], ready))

    def exposition(self) -> bytes:
        """Return all metrics in Prometheus' text format."""
        return generate_latest(self._registry)

"""Prometheus metrics, one registry a server. Base units, low-cardinality labels."""

from __future__ import annotations

from collections.abc import Callable

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, disable_created_metrics, generate_latest

SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0)
# The time at which each series began doubles the exposition and nothing reads it.
disable_created_metrics()  # type: ignore[no-untyped-call]

BATCH_SIZES = (1, 2, 4, 8, 16, 32, 64)


class Metrics:
    """The counters and histograms that the server keeps."""

    def __init__(self) -> None:
        self._registry = CollectorRegistry()
        self.requests = Counter(
            "clipserve_requests", "Answers by route and status", ["route", "status"], registry=self._registry
        )
        self.rejected = Counter(
            "clipserve_requests_rejected", "Requests refused, by error code", ["reason"], registry=self._registry
        )
        self.request_seconds = self._seconds("request", "Whole requests that were answered with labels")
        self.decode_seconds = self._seconds("decode", "Decoding in a worker process")
        self.queue_seconds = self._seconds("queue", "Waiting for a decode worker and for a batch")
        self.inference_seconds = self._seconds("inference", "Running the batches of a request")
        self.clips = Counter(
            "clipserve_clips", "Uploads answered (a picture counts as one)", ["model"], registry=self._registry
        )
        self.views = Counter("clipserve_views", "Views run", ["model"], registry=self._registry)
        self.frames_decoded = Counter(
            "clipserve_frames_decoded", "Frames that decoders put out", ["model"], registry=self._registry
        )
        self.frames_needed = Counter(
            "clipserve_frames_needed", "Different frames that views were made of", ["model"], registry=self._registry
        )
        self.batch_size = Histogram(
            "clipserve_batch_size",
            "Views in the batch that a request ran in",
            ["model"],
            buckets=BATCH_SIZES,
            registry=self._registry,
        )
        self.in_flight = Gauge("clipserve_requests_in_flight", "Requests being worked on", registry=self._registry)
        self._queue_depth = Gauge("clipserve_queue_depth", "Waiting, by queue", ["queue"], registry=self._registry)

    def _seconds(self, what: str, text: str) -> Histogram:
        return Histogram(
            f"clipserve_{what}_duration_seconds", text, ["model"], buckets=SECONDS, registry=self._registry
        )

    def watch_queue(self, queue: str, depth: Callable[[], float]) -> None:
        """Report `depth()` as the depth of `queue` at every scrape."""
        self._queue_depth.labels(queue).set_function(depth)

    def exposition(self) -> bytes:
        """Return all metrics in Prometheus' text format."""
        return generate_latest(self._registry)

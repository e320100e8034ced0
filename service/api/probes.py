"""The paths that machines ask every few seconds: how the server is, and its metrics."""

from __future__ import annotations

import re

# Without a key.
PROBES = frozenset({"/healthz", "/readyz", "/v2/health/live", "/v2/health/ready"})
_MODEL_PROBE = re.compile(r"/v2/models/[^/]+(/versions/[^/]+)?/ready")


def is_probe(path: str) -> bool:
    """Tell whether a path asks how the server is, or how one of its models is: with a key, where there are keys."""
    return path in PROBES or _MODEL_PROBE.fullmatch(path) is not None


def is_polled(path: str) -> bool:
    """Tell whether machines ask for a path every few seconds, and their requests say nothing: probes and metrics."""
    return path == "/metrics" or is_probe(path)

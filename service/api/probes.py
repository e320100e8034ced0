"""The paths by which orchestrators and load balancers ask, every few seconds and without a key, how the server is."""

from __future__ import annotations

PROBES = frozenset({"/healthz", "/readyz", "/v2/health/live", "/v2/health/ready"})

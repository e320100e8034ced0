"""Keys for tests, digested without the help of the code under test."""

from __future__ import annotations

import json
from hashlib import sha256
from typing import Any


def entry(name: str, key: str, **more: Any) -> dict[str, Any]:
    """Return what the configuration says of a key."""
    return {"name": name, "sha256": sha256(key.encode()).hexdigest(), **more}


def setting(*entries: dict[str, Any]) -> str:
    """Return the value of CLIPSERVE_API_KEYS."""
    return json.dumps(entries)


def bearer(key: str) -> dict[str, str]:
    """Return the headers of a client that has a key."""
    return {"Authorization": f"Bearer {key}"}

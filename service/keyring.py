"""The keys that clients may show, and how often each may."""

from __future__ import annotations

import hmac
from collections.abc import Sequence
from hashlib import sha256
from math import ceil
from time import monotonic

from service.errors import RateLimitedError
from service.service_time import retry_after
from service.settings import ApiKey
from service.token_bucket import TokenBucket


def digest(key: bytes) -> str:
    """Return what the configuration keeps of a key."""
    return sha256(key).hexdigest()


class Keyring:
    """All keys of the server.

    Args:
        keys: As configured.
    """

    def __init__(self, keys: Sequence[ApiKey]) -> None:
        self._keys = tuple(keys)
        self._buckets = {
            key.name: TokenBucket(key.requests_per_second, key.burst or ceil(key.requests_per_second), monotonic())
            for key in keys
            if key.requests_per_second is not None
        }

    def find(self, shown: bytes) -> ApiKey | None:
        """Return the key that a client has shown, or None; how long that takes tells nothing of the keys."""
        shown_digest = digest(shown)
        # All are compared, whichever it is.
        found = [key for key in self._keys if hmac.compare_digest(key.sha256, shown_digest)]
        return found[0] if found else None

    def count_request(self, key: ApiKey) -> None:
        """Count a request of `key`.

        Raises:
            RateLimitedError: It has made more than it may.
        """
        bucket = self._buckets.get(key.name)
        if bucket is None:
            return
        wait = bucket.take(monotonic())
        if wait > 0:
            raise RateLimitedError(
                f"the key `{key.name}` may make {key.requests_per_second:g} requests a second: try again later",
                retry_after=retry_after(wait),
            )

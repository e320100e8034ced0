"""Refuse uploads that end before their own structure does."""

from __future__ import annotations

from service.errors import UndecodableMediaError


def check_extent(size: int, end: int) -> None:
    """Go on if an upload of `size` bytes reaches to where it says that it ends, or further.

    Raises:
        UndecodableMediaError: It does not.
    """
    if end > size:
        raise UndecodableMediaError(f"the upload is cut short: {size} bytes came, its index reaches to {end}")

"""Fixtures of the tests of the service."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from tests.service.uploads import Decode


@pytest.fixture(scope="module")
def decode() -> Iterator[Decode]:
    """A function that has one worker decode an upload."""
    # Here, because what it needs encodes clips when it is imported.
    from tests.service.uploads import decode_worker

    with decode_worker() as decode:
        yield decode

"""Fixtures of the tests of the service."""

from __future__ import annotations

import os
from collections.abc import Iterator
from typing import TYPE_CHECKING

import pytest

from tests.server import ROOT

if TYPE_CHECKING:
    from tests.service.uploads import Decode


@pytest.fixture(scope="module")
def programs_of_tests() -> Iterator[None]:
    """Let decode workers run programs of the tests, although they take none from the folder they are started in."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PYTHONPATH", str(ROOT), prepend=os.pathsep)
        yield


@pytest.fixture(scope="module")
def decode() -> Iterator[Decode]:
    """A function that has one worker decode an upload."""
    # Here, because what it needs encodes clips when it is imported.
    from tests.service.uploads import decode_worker

    with decode_worker() as decode:
        yield decode

"""Fixtures that several test packages use."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.server import RunningServer, serving


@pytest.fixture(scope="session")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningServer]:
    """A server with the committed demo models, shared by all tests that leave it as they found it."""
    with serving(tmp_path_factory.mktemp("server")) as running:
        yield running


@pytest.fixture
def artefact_repository() -> Path:
    """The folder of the committed artefacts."""
    return Path(__file__).parents[1] / "model_repository"

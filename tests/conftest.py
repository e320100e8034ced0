"""Fixtures that several test packages use."""

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.server import RunningServer, serving

# OpenMP reads it when torch is loaded. Threads that spin while they wait for each other stand still where other work
# wants the cores: a test that takes two seconds then takes minutes.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")


@pytest.fixture(scope="session")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningServer]:
    """A server with the committed demo models, shared by all tests that leave it as they found it."""
    with serving(tmp_path_factory.mktemp("server")) as running:
        yield running


@pytest.fixture
def artefact_repository() -> Path:
    """The folder of the committed artefacts."""
    return Path(__file__).parents[1] / "model_repository"

"""Every family of networks has a member that answers uploads, behind a real server."""

from collections.abc import Iterator

import httpx
import pytest

from demo.clips import generate_file
from demo.recipes import RECIPES
from models import model_entry
from service.manifest import read_artefact
from tests.server import REPOSITORY, RunningServer, serving

# Training and evaluation use other seeds.
SEED, CLIPS = 78, 33
# Guessing gets one in eleven, or one in five of the outlines. The least trained ones are right about nine in ten.
BOUND = 0.7


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningServer]:
    with serving(tmp_path_factory.mktemp("families"), repository=REPOSITORY) as running:
        yield running


@pytest.mark.parametrize("name", RECIPES)
def test_it_is_small(name: str) -> None:
    files = list((REPOSITORY / name).glob("*/model.onnx"))
    assert files
    assert all(file.stat().st_size < 4_000_000 for file in files if name != "uniformer_tiny_shapes")


@pytest.mark.parametrize("name", RECIPES)
def test_its_manifest_tells_how_often_it_was_right(name: str) -> None:
    found = read_artefact(REPOSITORY / name / "1").manifest.precisions["fp32"].on_clips
    assert found is not None
    assert found.clips >= 200
    assert found.accuracy is not None
    assert found.accuracy >= BOUND
    assert (found.top1_agreement, found.accuracy) == (1, found.torch_accuracy)


@pytest.mark.parametrize("name", RECIPES)
def test_it_is_right_about_clips_that_it_never_saw(server: RunningServer, name: str) -> None:
    url, labels = f"{server.url}/v1/models/{name}/classify", model_entry(name).weights.labels
    right = 0
    for content, label in (generate_file(SEED, number, labels) for number in range(CLIPS)):
        answer = httpx.post(url, content=content, timeout=60)
        assert answer.status_code == 200, answer.text
        right += answer.json()["predictions"][0]["label"] == label
    assert right >= BOUND * CLIPS

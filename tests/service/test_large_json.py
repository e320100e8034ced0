"""Large JSON under /v2: however large and whatever it holds, the event loop of the server goes on."""

import json
from collections.abc import Iterator

import httpx
import numpy as np
import pytest
from prometheus_client.parser import text_string_to_metric_families

from service.settings import MEBIBYTE
from tests.segmenter import COLOURS, NAME, write_segmenter
from tests.server import RunningServer, serving

SHAPE = (4, 256, 256, 3)
INFER = f"/v2/models/{NAME}/infer"
BEGIN = b'{"inputs":[{"name":"frames","datatype":"UINT8","shape":[4,256,256,3],"data":'


def body(data: bytes) -> bytes:
    content = BEGIN + data + b"}]}"
    assert 0.7 * 4 * MEBIBYTE < len(content) < 4 * MEBIBYTE
    return content


def late_wakings(server: RunningServer, seconds: float) -> float:
    """Return how often the event loop has woken up so much too late."""
    name = "clipserve_event_loop_delay_seconds"
    text = httpx.get(f"{server.url}/metrics").text
    family = next(family for family in text_string_to_metric_families(text) if family.name == name)
    counts = {sample.labels["le"]: sample.value for sample in family.samples if sample.name == f"{name}_bucket"}
    return counts["+Inf"] - counts[str(seconds)]


def ask(server: RunningServer, content: bytes) -> httpx.Response:
    """Return the answer to a request during which the event loop never woke up late."""
    # What else the machine does may hold it up, too, but hardly each time.
    for _ in range(5):
        before = late_wakings(server, 0.05)
        answer = httpx.post(server.url + INFER, content=content, timeout=60)
        if late_wakings(server, 0.05) == before:
            return answer
    raise AssertionError("the event loop is blocked each time")


@pytest.fixture(scope="module")
def segmenting(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningServer]:
    folder = tmp_path_factory.mktemp("large_json")
    write_segmenter(folder / "models")
    with serving(folder, repository=folder / "models", decode_workers=1) as server:
        yield server


def test_tensor_in_lists_holds_nobody_up(segmenting: RunningServer) -> None:
    masks = np.random.default_rng(0).integers(0, 4, SHAPE[:3])
    # Three digits for most values, which changes no class.
    frames = COLOURS[masks] | np.uint8(100)
    answer = ask(segmenting, body(json.dumps(frames.tolist(), separators=(",", ":")).encode()))
    assert answer.status_code == 200, answer.text
    np.testing.assert_array_equal(np.reshape(answer.json()["outputs"][0]["data"], SHAPE[:3]), masks)


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (b"[" + b"[]," * 1_200_000 + b"[]]", "0 values"),
        (b"[" * 1_800_000 + b"]" * 1_800_000, "0 values"),
        (b"[" + b"1.5," * 900_000 + b"1]", "whole numbers"),
        (b"[" + b"1" * 3_600_000 + b"]", "1 values"),
        (b"[" + b'"a",' * 900_000 + b"1]", "quotation marks"),
        (b"[" + b"1," * 1_800_000 + b'""]', "bytes of JSON beside its texts"),
        (b"[" + b"1," * 1_800_000, "bytes of JSON beside its texts"),
    ],
    ids=["lists", "depth", "fractions", "digits", "texts", "a text among numbers", "no end"],
)
def test_whatever_is_in_the_lists_holds_nobody_up(segmenting: RunningServer, data: bytes, words: str) -> None:
    answer = ask(segmenting, body(data))
    assert answer.status_code == 400
    assert words in answer.json()["error"]

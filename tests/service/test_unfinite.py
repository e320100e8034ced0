"""A network that answers some pictures with what is no number, as weights that are none or float16 can make it."""

import re
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from threading import Barrier

import httpx
import numpy as np
import onnx
import pytest
from onnx import numpy_helper

from service.errors import InternalError
from service.outputs.classification import Combine, combine_views
from tests.classifier import CLASSES, SIDE, write_classifier, write_manifest
from tests.media import encode
from tests.server import RunningServer, serving

NAME = "overflowing"
DARK, BRIGHT = (encode(np.full((12, 64, 64, 3), shade, np.uint8)) for shade in (20, 250))


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningServer]:
    """A server with a network that gives every picture class 3, and to bright ones logits that are no numbers."""
    folder = tmp_path_factory.mktemp("unfinite")
    artefact = write_classifier(folder / "models", NAME, 1, answer=3)
    graph = onnx.load(artefact / "model.onnx")
    (table,) = (tensor for tensor in graph.graph.initializer if tensor.name == "zeros")
    added = np.where(np.arange(256) < 200, 0, np.nan).astype(np.float32)
    table.CopyFrom(numpy_helper.from_array(added, "zeros"))
    onnx.save(graph, artefact / "model.onnx")
    write_manifest(artefact)
    with serving(folder, repository=folder / "models", max_batch_size=4, max_queue_delay=0.5) as running:
        yield running


def test_it_is_an_internal_error_that_the_log_explains_and_harms_no_neighbour_in_the_batch(
    server: RunningServer,
) -> None:
    together = Barrier(8)

    def classify(content: bytes) -> httpx.Response:
        together.wait(60)
        return httpx.post(f"{server.url}/v1/classify", content=content, params={"top_k": 1}, timeout=60)

    with ThreadPoolExecutor(8) as clients:
        answers = list(clients.map(classify, [DARK, BRIGHT] * 4))
    for answer in answers[::2]:
        assert answer.status_code == 200, answer.text
        assert answer.json()["predictions"][0]["index"] == 3
    assert max(answer.json()["batch_size"] for answer in answers[::2]) > 1
    for answer in answers[1::2]:
        assert (answer.status_code, answer.json()["code"]) == (500, "internal_error")
        assert "finite" not in answer.json()["detail"]
    number = answers[1].headers["x-request-id"]
    log = server.log.read_text()
    assert re.search(f"{number} model={NAME}/1 .*internal error", log)
    assert f"the network's output is not finite: {CLASSES} of {CLASSES} logits are NaN or infinite" in log
    assert "RuntimeWarning" not in log


@pytest.mark.parametrize("outputs", [None, [{"name": "scores", "parameters": {"classification": 1}}]])
def test_open_inference_protocol_says_so_too(server: RunningServer, outputs: list[object] | None) -> None:
    def infer(shade: int) -> httpx.Response:
        pixels = [shade] * (SIDE * SIDE * 3)
        tensor = {"name": "frames", "shape": [1, SIDE, SIDE, 3], "datatype": "UINT8", "data": pixels}
        body = {"inputs": [tensor]} | ({} if outputs is None else {"outputs": outputs})
        return httpx.post(f"{server.url}/v2/models/{NAME}/infer", json=body, timeout=60)

    assert infer(20).status_code == 200
    refused = infer(250)
    assert refused.status_code == 500
    assert "the server's log has more under" in refused.json()["error"]


@pytest.mark.parametrize("combine", ["mean_logits", "mean_softmax", "max_sigmoid"])
@pytest.mark.parametrize("multi_label", [False, True])
def test_one_view_is_enough(combine: Combine, multi_label: bool) -> None:
    logits = np.zeros((3, 4), np.float32)
    logits[1, 2] = np.nan
    with pytest.raises(InternalError, match="1 of 12 logits"):
        combine_views(logits, combine, multi_label)


def test_class_that_a_network_rules_out_is_none_of_it() -> None:
    scores = combine_views(np.array([[0, -np.inf, 0]], np.float32), "mean_softmax", multi_label=False)
    assert scores == pytest.approx([0.5, 0, 0.5])

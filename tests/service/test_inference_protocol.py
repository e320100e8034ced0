"""The Open Inference Protocol over HTTP, asked by Triton's own client and by hand."""

import base64
import importlib
import json
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import onnxruntime as ort
import pytest
import tritonclient.http as triton
from numpy.typing import NDArray
from prometheus_client.parser import text_string_to_metric_families

from demo.clips import encode_picture
from demo.shapes import LABELS
from service.app import create_app
from service.settings import Settings
from tests.segmenter import COLOURS, write_segmenter
from tests.segmenter import NAME as SEGMENTER
from tests.server import ROOT, RunningServer, begun_upload, running, serving, unless

MODEL, SEGMENTOR = "uniformer_tiny_shapes", "uniformer_tiny_shapes_fpn"
INFER = f"/v2/models/{MODEL}/infer"
CLIP = (ROOT / "demo/media/sample.mp4").read_bytes()
PICTURE = (ROOT / "demo/media/sample.jpg").read_bytes()
VIEW = (8, 96, 96, 3)
RAW = {"Inference_Header_Content_Length": "0"}
FRAMES = np.random.default_rng(11).integers(0, 256, (3, *VIEW), dtype=np.uint8)


@pytest.fixture
def client(server: RunningServer) -> Iterator[triton.InferenceServerClient]:
    with connected(server) as client:
        yield client


def connected(server: RunningServer) -> triton.InferenceServerClient:
    return triton.InferenceServerClient(server.url.removeprefix("http://"), network_timeout=60)


def clip_input(*files: bytes) -> triton.InferInput:
    tensor = triton.InferInput("clip", [len(files)], "BYTES")
    return tensor.set_data_from_numpy(np.array(files, dtype=np.object_))


def frames_input(frames: NDArray[np.uint8], binary: bool = True) -> triton.InferInput:
    tensor = triton.InferInput("frames", list(frames.shape), "UINT8")
    return tensor.set_data_from_numpy(frames, binary_data=binary)


def scores_of(server: RunningServer, content: bytes, **query: Any) -> list[float]:
    """Return the scores of all classes by POST /v1/classify."""
    answer = httpx.post(
        f"{server.url}/v1/classify", content=content, params={"top_k": len(LABELS), **query}, timeout=60
    )
    predictions = sorted(answer.json()["predictions"], key=lambda prediction: prediction["index"])
    return [prediction["score"] for prediction in predictions]


def run_network(frames: NDArray[np.uint8]) -> NDArray[np.float32]:
    """Return the logits of the committed network, run apart from the server."""
    session = ort.InferenceSession(ROOT / "model_repository" / MODEL / "1/model.onnx")
    return np.asarray(session.run(["logits"], {"frames": frames})[0])


def post(server: RunningServer, body: Any, path: str = INFER, **headers: Any) -> httpx.Response:
    content = body if isinstance(body, bytes) else json.dumps(body).encode()
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    return httpx.post(server.url + path, content=content, headers=named, timeout=60)


def post_binary(server: RunningServer, request: Any, data: bytes) -> httpx.Response:
    head = json.dumps(request).encode()
    return post(server, head + data, Inference_Header_Content_Length=str(len(head)))


def error_of(answer: httpx.Response, status: int) -> str:
    assert answer.status_code == status, answer.text
    assert answer.headers["content-type"] == "application/json"
    assert set(answer.json()) == {"error"}
    error: str = answer.json()["error"]
    return error


def test_server_and_model_describe_themselves(client: triton.InferenceServerClient) -> None:
    assert client.is_server_live()
    assert client.is_server_ready()
    assert client.is_model_ready(MODEL)
    assert client.is_model_ready(MODEL, "1")
    assert not client.is_model_ready(MODEL, "2")
    assert not client.is_model_ready("nothing")
    server = client.get_server_metadata()
    assert server["name"] == "clipserve"
    # Those of Triton's that are spoken here, by the names that a live server of theirs lists.
    assert set(server["extensions"]) == {
        "binary_tensor_data",
        "classification",
        "model_configuration",
        "model_repository",
        "model_repository(unload_dependents)",
        "parameters",
        "schedule_policy",
        "statistics",
    }
    expected = {
        "name": MODEL,
        "versions": ["1"],
        "platform": "onnx_onnxv1",
        "inputs": [
            {"name": "clip", "datatype": "BYTES", "shape": [-1]},
            {"name": "frames", "datatype": "UINT8", "shape": [-1, *VIEW]},
        ],
        "outputs": [
            {"name": "scores", "datatype": "FP32", "shape": [-1, 11]},
            {"name": "logits", "datatype": "FP32", "shape": [-1, 11]},
        ],
    }
    assert client.get_model_metadata(MODEL) == client.get_model_metadata(MODEL, "1") == expected
    config = client.get_model_config(MODEL)
    assert (config["name"], config["max_batch_size"]) == (MODEL, 8)
    assert config["input"][1] == {"name": "frames", "data_type": "TYPE_UINT8", "dims": list(VIEW)}
    assert client.get_model_repository_index() == [
        {"name": name, "version": "1", "state": "READY", "reason": ""} for name in (MODEL, SEGMENTOR)
    ]


def test_bodies_of_the_health_paths_and_lists(server: RunningServer) -> None:
    def get(path: str) -> Any:
        return httpx.get(f"{server.url}/v2/{path}").json()

    assert get("health/live") == {"live": True}
    assert get("health/ready") == {"ready": True}
    assert get(f"models/{MODEL}/ready") == get(f"models/{MODEL}/versions/1/ready") == {"name": MODEL, "ready": True}
    assert get("models") == {"models": [MODEL, SEGMENTOR]}
    index = post(server, {"ready": True}, "/v2/repository/index")
    assert [model["name"] for model in index.json()] == [MODEL, SEGMENTOR]
    error_of(post(server, {"ready": "maybe"}, "/v2/repository/index"), 400)
    error_of(post(server, b"x" * 100_000, "/v2/repository/index"), 413)


def test_encoded_files_are_answered_as_by_classify(server: RunningServer, client: triton.InferenceServerClient) -> None:
    files = (CLIP, PICTURE, CLIP)
    result = client.infer(MODEL, [clip_input(*files)], request_id="seven")
    assert result.get_response()["id"] == "seven"
    assert (result.get_response()["model_name"], result.get_response()["model_version"]) == (MODEL, "1")
    expected = [scores_of(server, content) for content in files]
    np.testing.assert_allclose(result.as_numpy("scores"), expected, rtol=0, atol=1e-5)


def test_parameters_choose_views_as_the_query_of_classify_does(
    server: RunningServer, client: triton.InferenceServerClient
) -> None:
    views = {"clips": 2, "crops": 3, "start": 0.2, "end": 1.9}
    result = client.infer(MODEL, [clip_input(CLIP)], parameters=views, model_version="1")
    np.testing.assert_allclose(result.as_numpy("scores"), [scores_of(server, CLIP, **views)], rtol=0, atol=1e-5)
    assert np.abs(result.as_numpy("scores") - scores_of(server, CLIP)).max() > 1e-4


def test_classification_names_the_classes_that_classify_names(
    server: RunningServer, client: triton.InferenceServerClient
) -> None:
    predictions = httpx.post(f"{server.url}/v1/classify", content=CLIP, params={"top_k": 3}).json()["predictions"]
    for binary in (True, False):
        wanted = triton.InferRequestedOutput("scores", binary_data=binary, class_count=3)
        named = client.infer(MODEL, [clip_input(CLIP, PICTURE)], outputs=[wanted]).as_numpy("scores")
        assert named.shape == (2, 3)
        texts = [element.decode() if binary else element for element in named[0]]
        found = [text.split(":", 2) for text in texts]
        assert [(int(index), label) for _, index, label in found] == [(p["index"], p["label"]) for p in predictions]
        assert [float(value) for value, _, _ in found] == pytest.approx([p["score"] for p in predictions], abs=1e-5)


@pytest.mark.parametrize("binary_answer", [True, False])
@pytest.mark.parametrize("binary_request", [True, False])
def test_frames_give_what_the_network_gives(
    client: triton.InferenceServerClient, binary_request: bool, binary_answer: bool
) -> None:
    outputs = [triton.InferRequestedOutput(name, binary_data=binary_answer) for name in ("logits", "scores")]
    result = client.infer(MODEL, [frames_input(FRAMES, binary_request)], outputs=outputs)
    logits = run_network(FRAMES)
    np.testing.assert_allclose(result.as_numpy("logits"), logits, rtol=0, atol=1e-4)
    exponentials = np.exp(logits.astype(np.float64))
    expected = exponentials / exponentials.sum(axis=1, keepdims=True)
    np.testing.assert_allclose(result.as_numpy("scores"), expected, rtol=0, atol=1e-5)


def test_classification_of_logits_orders_them(client: triton.InferenceServerClient) -> None:
    wanted = triton.InferRequestedOutput("logits", class_count=100)
    named = client.infer(MODEL, [frames_input(FRAMES)], outputs=[wanted]).as_numpy("logits")
    logits = run_network(FRAMES)
    assert named.shape == (3, 11)
    for row, expected in zip(named, logits, strict=True):
        values, indices, labels = zip(*(element.decode().split(":", 2) for element in row), strict=True)
        np.testing.assert_allclose([float(value) for value in values], np.sort(expected)[::-1], rtol=0, atol=1e-4)
        assert list(labels) == [LABELS[int(index)] for index in indices]
        np.testing.assert_allclose(expected[[int(index) for index in indices]], np.sort(expected)[::-1], atol=1e-4)


def test_frames_may_be_nested_as_their_shape_says(server: RunningServer) -> None:
    tensor = {"name": "frames", "shape": [1, *VIEW], "datatype": "UINT8", "data": FRAMES[:1].tolist()}
    answer = post(server, {"inputs": [tensor], "outputs": [{"name": "logits"}]}).json()
    (output,) = answer["outputs"]
    assert (output["name"], output["datatype"], output["shape"]) == ("logits", "FP32", [1, 11])
    np.testing.assert_allclose(output["data"], run_network(FRAMES[:1])[0], rtol=0, atol=1e-4)
    # The protocol wants an id back where one came, and clients stumble over a null.
    assert "id" not in answer


def test_file_in_json_is_base64(server: RunningServer) -> None:
    for parameters in ({}, {"content_type": "base64"}):
        data = [base64.b64encode(CLIP).decode()]
        tensor = {"name": "clip", "shape": [1], "datatype": "BYTES", "parameters": parameters, "data": data}
        (output,) = post(server, {"id": "", "inputs": [tensor]}).json()["outputs"]
        assert output["data"] == pytest.approx(scores_of(server, CLIP), abs=1e-5)


def test_body_without_json_is_one_file(server: RunningServer) -> None:
    answer = post(server, CLIP, Inference_Header_Content_Length="0", Content_Type="application/octet-stream")
    result = triton.InferResult.from_response_body(
        answer.content, header_length=answer.headers["inference-header-content-length"]
    )
    np.testing.assert_allclose(result.as_numpy("scores"), [scores_of(server, CLIP)], rtol=0, atol=1e-5)
    assert "element 0" not in error_of(post(server, b"", Inference_Header_Content_Length="0"), 400)


def test_null_is_as_good_as_nothing(server: RunningServer) -> None:
    tensor = clip_tensor(parameters=None)
    request = {"id": None, "parameters": None, "inputs": [tensor], "outputs": None}
    assert [output["name"] for output in post(server, request).json()["outputs"]] == ["scores"]


def test_example_of_the_documentation_runs(server: RunningServer) -> None:
    page = (ROOT / "docs/inference_protocol.md").read_text()
    code = page.partition("```python\n")[2].partition("```")[0]
    code = code.replace("127.0.0.1:8000", server.url.removeprefix("http://"))
    run = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    label = json.loads((ROOT / "demo/media/labels.json").read_text())["sample.mp4"]
    assert run.stdout.startswith("[[b'0.")
    assert run.stdout.split("\n")[0].endswith(f":{label}'")


def test_openapi_describes_every_part_of_the_paths(server: RunningServer) -> None:
    paths = httpx.get(f"{server.url}/openapi.json").json()["paths"]
    asked = paths["/v2/models/{name}/versions/{version}/infer"]["post"]
    assert [parameter["name"] for parameter in asked["parameters"]] == ["name", "version"]


def test_request_may_come_in_small_pieces(server: RunningServer) -> None:
    tensor = clip_input(PICTURE, PICTURE)
    body, length = triton.InferenceServerClient.generate_request_body([tensor])
    pieces = (body[at : at + 997] for at in range(0, len(body), 997))
    headers = {"Inference-Header-Content-Length": str(length)}
    answer = httpx.post(server.url + INFER, content=pieces, headers=headers, timeout=60)
    assert answer.status_code == 200, answer.text


def statistics_of(client: triton.InferenceServerClient) -> dict[str, Any]:
    (model,) = client.get_inference_statistics(MODEL)["model_stats"]
    found: dict[str, Any] = model
    return found


def test_statistics_grow_with_what_was_asked(server: RunningServer, client: triton.InferenceServerClient) -> None:
    before = statistics_of(client)
    began = time.time_ns() // 1_000_000
    client.infer(MODEL, [frames_input(FRAMES)])
    client.infer(MODEL, [clip_input(CLIP)], parameters={"clips": 2})
    httpx.post(f"{server.url}/v1/classify", content=CLIP)
    error_of(post(server, b"{}"), 400)
    after = statistics_of(client)
    assert (after["name"], after["version"]) == (MODEL, "1")
    assert after["inference_count"] - before["inference_count"] == 3 + 2 + 1
    assert after["last_inference"] >= began
    grown = {
        name: after["inference_stats"][name]["count"] - before["inference_stats"][name]["count"]
        for name in after["inference_stats"]
    }
    views = {"queue": 6, "compute_input": 6, "compute_infer": 6, "compute_output": 6}
    assert grown == {"success": 3, "fail": 1, **views, "cache_hit": 0, "cache_miss": 0}
    assert after["inference_stats"]["compute_infer"]["ns"] > before["inference_stats"]["compute_infer"]["ns"]
    batches = after["batch_stats"]
    assert sum(batch["compute_infer"]["count"] for batch in batches) == after["execution_count"]
    counted = sum(batch["batch_size"] * batch["compute_infer"]["count"] for batch in batches)
    assert counted == after["inference_count"]
    assert client.get_inference_statistics()["model_stats"][0] == after


def clip_tensor(**changes: Any) -> dict[str, Any]:
    data = [base64.b64encode(PICTURE).decode()]
    return {"name": "clip", "shape": [1], "datatype": "BYTES", "data": data, **changes}


def frames_tensor(**changes: Any) -> dict[str, Any]:
    return {"name": "frames", "shape": [1, *VIEW], "datatype": "UINT8", "data": [0], **changes}


BAD_JSON: dict[str, tuple[Any, str]] = {
    "no json": (b"\x00\x01", "JSON"),
    "empty": (b"", "JSON"),
    "not utf-8": (b'{"id": "\xff"}', "JSON"),
    "deep": (b"[" * 100_000, "recursion"),
    "a list": ([], "object"),
    "no inputs": ({}, "inputs"),
    "inputs no list": ({"inputs": {}}, "inputs"),
    "empty inputs": ({"inputs": []}, "exactly one, clip or frames"),
    "unknown input": ({"inputs": [clip_tensor(name="video")]}, "'video'"),
    "both inputs": ({"inputs": [clip_tensor(), frames_tensor()]}, "exactly one"),
    "many inputs": ({"inputs": [clip_tensor(data=[])] * 100}, "at most 8"),
    "many objects": (b'{"inputs":[' + b"{}," * 1_000_000 + b"{}]}", "1000002 objects"),
    "id a number": ({"id": 7, "inputs": [clip_tensor()]}, "id"),
    "nan": ({"inputs": [clip_tensor()], "id": float("nan")}, "JSON"),
    "nan among values": ({"inputs": [frames_tensor(data=[float("nan")])]}, "whole numbers"),
    "fractions": ({"inputs": [frames_tensor(data=[0.5] * 221184)]}, "whole numbers"),
    "booleans": ({"inputs": [frames_tensor(data=[True] * 221184)]}, "whole numbers"),
    "texts": ({"inputs": [frames_tensor(data=["7"] * 221184)]}, "whole numbers"),
    "negative values": ({"inputs": [frames_tensor(data=[-1] * 221184)]}, "0 to 255"),
    "large values": ({"inputs": [frames_tensor(data=[10**10] * 221184)]}, "0 to 255"),
    "too few values": ({"inputs": [frames_tensor(data=[1, 2, 3])]}, "3 values"),
    "no values": ({"inputs": [frames_tensor(data=[])]}, "0 values"),
    "ragged": ({"inputs": [frames_tensor(data=[[0] * 221183, 1])]}, "nested as the shape says"),
    "a number": ({"inputs": [frames_tensor(data=5)]}, "list"),
    "no data": ({"inputs": [frames_tensor(data=None)]}, "binary_data_size"),
    "data twice": ({"inputs": [frames_tensor(parameters={"binary_data_size": 221184})]}, "either"),
    "datatype": ({"inputs": [frames_tensor(datatype="FP32")]}, "must be UINT8"),
    "unknown datatype": ({"inputs": [clip_tensor(datatype="STRING")]}, "must be BYTES"),
    "shape": ({"inputs": [frames_tensor(shape=[1, 8, 96, 96])]}, "[-1, 8, 96, 96, 3]"),
    "other size": ({"inputs": [frames_tensor(shape=[1, 8, 97, 96, 3])]}, "[-1, 8, 96, 96, 3]"),
    "negative shape": ({"inputs": [frames_tensor(shape=[-1, *VIEW])]}, "shape[0]"),
    "empty shape": ({"inputs": [clip_tensor(shape=[])]}, "[-1]"),
    "shape of texts": ({"inputs": [clip_tensor(shape=["1"])]}, "shape[0]"),
    "huge shape": ({"inputs": [frames_tensor(shape=[10**18, *VIEW])]}, "1 to 30"),
    "huger shape": ({"inputs": [frames_tensor(shape=[10**40, *VIEW])]}, "shape[0]"),
    "many clips": ({"inputs": [clip_tensor(shape=[10**18])]}, "1 to 30"),
    "many axes": ({"inputs": [clip_tensor(shape=[1] * 10_000)]}, "at most 8"),
    "no frames": ({"inputs": [frames_tensor(shape=[0, *VIEW], data=[])]}, "1 to 30"),
    "no base64": ({"inputs": [clip_tensor(data=["*"])]}, "base64"),
    "clip a number": ({"inputs": [clip_tensor(data=[5])]}, "base64"),
    "clip missing": ({"inputs": [clip_tensor(data=[])]}, "list of the 1"),
    "clip empty": ({"inputs": [clip_tensor(data=[""])]}, "empty"),
    "unknown output": ({"inputs": [clip_tensor()], "outputs": [{"name": "nothing"}]}, "gives scores"),
    "output of frames": ({"inputs": [clip_tensor()], "outputs": [{"name": "logits"}]}, "gives scores"),
    "output twice": ({"inputs": [clip_tensor()], "outputs": [{"name": "scores"}] * 2}, "once"),
    "no classes": (
        {"inputs": [clip_tensor()], "outputs": [{"name": "scores", "parameters": {"classification": 0}}]},
        "classification",
    ),
    "shared memory": (
        {"inputs": [clip_tensor(parameters={"shared_memory_region": "x"})]},
        "shared_memory_region: not known",
    ),
    "priority": ({"inputs": [clip_tensor()], "parameters": {"priority": -1}}, "priority: "),
    "many parameters": ({"inputs": [clip_tensor()], "parameters": {str(i): i for i in range(1000)}}, "at most 32"),
    "views of frames": ({"inputs": [frames_tensor()], "parameters": {"clips": 2}}, "clips: not known"),
    "too many views": ({"inputs": [clip_tensor()], "parameters": {"clips": 1000}}, "1000"),
    "two crops": ({"inputs": [clip_tensor()], "parameters": {"crops": 2}}, "crops"),
    "start after end": ({"inputs": [clip_tensor()], "parameters": {"start": 2, "end": 1}}, "start"),
    "timeout": ({"inputs": [clip_tensor()], "parameters": {"timeout": -1}}, "timeout"),
}


@pytest.mark.parametrize("case", BAD_JSON)
def test_bad_json_is_refused_with_a_reason(server: RunningServer, case: str) -> None:
    body, words = BAD_JSON[case]
    assert words in error_of(post(server, body), 400)


def sized(tensor: dict[str, Any], size: int, **changes: Any) -> dict[str, Any]:
    return {**tensor, "data": None, "parameters": {"binary_data_size": size}, **changes}


def element(content: bytes, length: int | None = None) -> bytes:
    return (len(content) if length is None else length).to_bytes(4, "little") + content


BAD_BINARY: dict[str, tuple[dict[str, Any], bytes, str]] = {
    "frames too short": (sized(frames_tensor(), 221184), b"\0" * 10, "10 bytes came"),
    "frames too long": (sized(frames_tensor(), 221184), b"\0" * 221185, "more bytes"),
    "frames of another size": (sized(frames_tensor(), 7), b"\0" * 7, "takes 221184 bytes"),
    "huge frames": (sized(frames_tensor(), 10**18, shape=[10**18, *VIEW]), b"", "1 to 30"),
    "huge size": (sized(clip_tensor(), 10**18), element(PICTURE), "are missing"),
    "negative size": (sized(clip_tensor(), -1), b"", "binary_data_size"),
    "length past the end": (sized(clip_tensor(), 8), element(b"abcd", 5), "says it has 5 bytes, and 4"),
    "huge length": (sized(clip_tensor(), 8), element(b"abcd", 0xFFFFFFFF), "says it has 4294967295 bytes"),
    "length zero": (sized(clip_tensor(), 4), element(b""), "says it has 0 bytes"),
    "half a length": (sized(clip_tensor(), 2), b"\1\0", "0 elements for the 1"),
    "nothing": (sized(clip_tensor(), 0), b"", "0 elements for the 1"),
    "too few elements": (
        sized(clip_tensor(shape=[2]), len(PICTURE) + 4),
        element(PICTURE),
        "1 elements for the 2",
    ),
    "too many elements": (sized(clip_tensor(), 2 * len(PICTURE) + 8), element(PICTURE) * 2, "more elements than the 1"),
    "element cut": (sized(clip_tensor(), len(PICTURE) + 4), element(PICTURE)[:-1], "1 bytes"),
    "bytes behind": (sized(clip_tensor(), len(PICTURE) + 4), element(PICTURE) + b"x", "more bytes"),
    "bytes without a tensor": (clip_tensor(), b"x", "no input has the parameter"),
}


@pytest.mark.parametrize("case", BAD_BINARY)
def test_bad_binary_data_is_refused_with_a_reason(server: RunningServer, case: str) -> None:
    tensor, data, words = BAD_BINARY[case]
    assert words in error_of(post_binary(server, {"inputs": [tensor]}, data), 400)


@pytest.mark.parametrize("length", ["-1", "1.5", "x", "", "9" * 30, b"\xb2", "1000", "5", "999999999"])
def test_bad_length_of_the_json_is_refused(server: RunningServer, length: str | bytes) -> None:
    error_of(post(server, {"inputs": [clip_tensor()]}, Inference_Header_Content_Length=length), 400)


def test_query_parameters_are_refused_by_name(server: RunningServer) -> None:
    error = error_of(post(server, CLIP, f"{INFER}?clips=2&foo=1", **RAW), 400)
    assert "clips, foo" in error
    assert "`parameters`" in error


def test_media_are_refused_as_by_classify(server: RunningServer) -> None:
    def ask(*files: bytes) -> httpx.Response:
        body, length = triton.InferenceServerClient.generate_request_body([clip_input(*files)])
        return post(server, body, Inference_Header_Content_Length=str(length))

    assert "element 1" in error_of(ask(CLIP, b"just some text, no video\n" * 20), 415)
    assert "element 1" in error_of(ask(CLIP, CLIP[: len(CLIP) // 2]), 422)
    assert error_of(ask(CLIP[:100]), 422) == error_of(post(server, CLIP[:100], **RAW), 422)
    compressed = post(server, {"inputs": [clip_tensor()]}, Content_Encoding="gzip")
    assert "compressed" in error_of(compressed, 415)


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        ("GET", "/v2/models/nothing", 404),
        ("GET", f"/v2/models/{MODEL}/versions/2", 404),
        ("GET", "/v2/models/nothing/stats", 404),
        ("GET", "/v2/models/nothing/config", 404),
        ("GET", "/v2/models/nothing/ready", 404),
        ("POST", "/v2/models/nothing/infer", 404),
        ("POST", f"/v2/models/{MODEL}/versions/x/infer", 404),
        ("GET", "/v2/nowhere", 404),
        ("GET", INFER, 405),
        ("POST", "/v2", 405),
    ],
)
def test_unknown_paths_answer_in_the_protocols_form(server: RunningServer, method: str, path: str, status: int) -> None:
    assert error_of(httpx.request(method, server.url + path), status)


def test_limits_of_size_hold_before_the_body_is_read(tmp_path: Path) -> None:
    # So far from each other that no single read of the server, of 256 KiB at most, goes over two of them.
    limits = {"max_body_bytes": 3_000_000, "max_json_bytes": 1_000_000, "max_upload_memory_bytes": 3_000_000}
    with serving(tmp_path, upload_idle_timeout=60, **limits) as server:
        assert "3000000" in error_of(post(server, b"x" * 3_000_001), 413)
        endless = (b" " * 10_000 for _ in range(1_000))
        assert "1000000 bytes of JSON" in error_of(httpx.post(server.url + INFER, content=endless), 413)
        head = post(server, b" " * 2_000_000, Inference_Header_Content_Length="1000001")
        assert "1000000 bytes of JSON" in error_of(head, 413)
        large = b"\xff\xd8\xff" + b"x" * 2_600_000
        with begun_upload(server, large, sent=len(large) - 1):
            # The server may still be reading what the other one sent.
            filling = server.wait_for(lambda: unless(post(server, large, **RAW), 422))
            assert "try again later" in error_of(filling, 429)
            assert int(filling.headers["retry-after"]) >= 1
        # A length that never comes must not be waited for.
        host, port = server.url.removeprefix("http://").split(":")
        with socket.create_connection((host, int(port)), timeout=5) as connection:
            connection.sendall(f"POST {INFER} HTTP/1.1\r\nHost: x\r\nContent-Length: {10**15}\r\n\r\n".encode())
            assert connection.recv(4096).startswith(b"HTTP/1.1 413")
        # What refused requests had taken is given back.
        for _ in range(3):
            assert post(server, PICTURE, **RAW).status_code == 200


def test_deadlines_are_kept(tmp_path: Path, server: RunningServer) -> None:
    with connected(server) as client, pytest.raises(triton.InferenceServerException, match=r"0\.001 s") as caught:
        client.infer(MODEL, [frames_input(np.zeros((30, *VIEW), np.uint8))], timeout=1000)
    assert caught.value.status() == "504"
    with serving(tmp_path, request_timeout=1.0) as slow:
        host, port = slow.url.removeprefix("http://").split(":")
        with socket.create_connection((host, int(port)), timeout=20) as connection:
            connection.sendall(f"POST {INFER} HTTP/1.1\r\nHost: x\r\nContent-Length: 1000\r\n\r\n{{".encode())
            answer = b""
            while b"}" not in answer:
                answer += connection.recv(4096)
            assert answer.startswith(b"HTTP/1.1 504")
            assert b'{"error":' in answer


@pytest.mark.parametrize(("first", "second"), [(2, 0), (7, 1)])
def test_lower_priority_waits_behind_what_comes_later(tmp_path: Path, first: int, second: int) -> None:
    def wait_until_accepted(count: int) -> None:
        server.wait_for(lambda: f"clipserve_requests_in_flight {count}.0" in server.metrics())

    def ask(views: int, priority: int) -> None:
        with connected(server) as client:
            frames = np.zeros((views, *VIEW), np.uint8)
            client.infer(MODEL, [frames_input(frames)], priority=priority)
        done.append(priority)

    done: list[int] = []
    with serving(tmp_path, max_batch_size=1) as server, ThreadPoolExecutor(6) as callers:
        running = [callers.submit(ask, 30, 1) for _ in range(4)]
        wait_until_accepted(4)
        running.append(callers.submit(ask, 20, first))
        wait_until_accepted(5)
        running.append(callers.submit(ask, 1, second))
        for caller in running:
            caller.result()
    assert done[-1] == first


def test_answer_tells_the_batch_that_it_ran_in(server: RunningServer, client: triton.InferenceServerClient) -> None:
    result = client.infer(MODEL, [frames_input(FRAMES)])
    assert result.get_response()["parameters"] == {"batch_size": len(FRAMES)}
    segmented = post(server, PICTURE, f"/v2/models/{SEGMENTOR}/infer", **RAW)
    head = json.loads(segmented.content[: int(segmented.headers["inference-header-content-length"])])
    assert head["parameters"] == {"batch_size": 1}


def test_full_queue_is_told_with_a_time_to_come_back(tmp_path: Path) -> None:
    with serving(tmp_path, max_queue_size=2, max_batch_size=1) as server:
        # Three views at once are more than may ever wait; of many single ones some find the queue full.
        with connected(server) as client, pytest.raises(triton.InferenceServerException, match="takes 2") as caught:
            client.infer(MODEL, [frames_input(FRAMES)])
        assert caught.value.status() == "400"
        body, length = triton.InferenceServerClient.generate_request_body([clip_input(*[PICTURE] * 30)])
        full = post(server, body, Inference_Header_Content_Length=str(length))
        assert "may" in error_of(full, 429)
        assert int(full.headers["retry-after"]) >= 1
        assert post(server, PICTURE, **RAW).status_code == 200


def test_client_that_leaves_takes_its_work_along(server: RunningServer, client: triton.InferenceServerClient) -> None:
    before = statistics_of(client)["inference_stats"]
    body, length = triton.InferenceServerClient.generate_request_body([frames_input(np.zeros((30, *VIEW), np.uint8))])
    host, port = server.url.removeprefix("http://").split(":")
    head = (
        f"POST {INFER} HTTP/1.1\r\nHost: x\r\nContent-Length: {len(body)}\r\n"
        f"Inference-Header-Content-Length: {length}\r\n\r\n"
    )
    with socket.create_connection((host, int(port))) as connection:
        connection.sendall(head.encode() + body)
    server.wait_for(lambda: statistics_of(client)["inference_stats"]["fail"]["count"] > before["fail"]["count"])
    after = statistics_of(client)["inference_stats"]
    assert after["success"]["count"] == before["success"]["count"]
    assert client.infer(MODEL, [frames_input(FRAMES)]).as_numpy("logits").shape == (3, 11)


def blocks(height: int, width: int, seed: int) -> NDArray[np.uint8]:
    """Return a mask (H, W) whose blocks of 8 x 8 have random classes."""
    classes = np.random.default_rng(seed).integers(0, 4, (height // 8, width // 8), dtype=np.uint8)
    return classes.repeat(8, axis=0).repeat(8, axis=1)


@pytest.fixture(scope="module")
def segmenting(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningServer]:
    folder = tmp_path_factory.mktemp("segmenting")
    write_segmenter(folder / "repository")
    with serving(folder, repository=folder / "repository", max_segmented_frames=3) as server:
        yield server


def test_frames_of_any_size_give_masks(segmenting: RunningServer) -> None:
    with connected(segmenting) as client:
        metadata = client.get_model_metadata(SEGMENTER)
        assert metadata["inputs"][1] == {"name": "frames", "datatype": "UINT8", "shape": [-1, -1, -1, 3]}
        assert metadata["outputs"] == [{"name": "mask", "datatype": "UINT8", "shape": [-1, -1, -1]}]
        for height, width in ((64, 96), (160, 128)):
            masks = np.stack([blocks(height, width, seed) for seed in range(3)])
            for binary in (True, False):
                wanted = triton.InferRequestedOutput("mask", binary_data=binary)
                result = client.infer(SEGMENTER, [frames_input(COLOURS[masks])], outputs=[wanted])
                np.testing.assert_array_equal(result.as_numpy("mask"), masks)


def test_encoded_pictures_give_masks_of_their_size(segmenting: RunningServer) -> None:
    # The model looks at them at twice the size, where all that a resize changes is the borders of the blocks.
    expected = np.stack([blocks(64, 128, seed) for seed in (5, 6)])
    files = [encode_picture(COLOURS[mask]) for mask in expected]
    with connected(segmenting) as client:
        masks = client.infer(SEGMENTER, [clip_input(*files)]).as_numpy("mask")
        assert masks.shape == expected.shape
        rows, columns = np.indices(masks.shape[1:])
        inside = (rows % 8 % 7 > 0) & (columns % 8 % 7 > 0)
        np.testing.assert_array_equal(masks[:, inside], expected[:, inside])
        smaller = encode_picture(COLOURS[blocks(64, 64, 7)])
        with pytest.raises(triton.InferenceServerException, match="64x64, 128x64"):
            client.infer(SEGMENTER, [clip_input(files[0], smaller)])


SegmenterCase = tuple[Callable[[], triton.InferInput], str]
BAD_PICTURES: dict[str, SegmenterCase] = {
    "no multiple": (lambda: frames_input(np.zeros((1, 64, 100, 3), np.uint8)), "multiples of 32"),
    "too small": (lambda: frames_input(np.zeros((1, 32, 64, 3), np.uint8)), "at least 64"),
    "too large": (lambda: frames_input(np.zeros((1, 256, 320, 3), np.uint8)), "65536 at once"),
    "too long": (
        lambda: frames_input(np.zeros((1, 64, 544, 3), np.uint8)),
        "height 64 and width 544, 34816 pixels; the model takes 65536 at once, and sides of 512 at most",
    ),
    "too many": (lambda: frames_input(np.zeros((4, 64, 64, 3), np.uint8)), "1 to 3"),
    "too many clips": (lambda: clip_input(*[PICTURE] * 4), "1 to 3"),
    "video among others": (lambda: clip_input(CLIP, PICTURE), "element 0 of `clip`: it is a video"),
}


@pytest.mark.parametrize("case", BAD_PICTURES)
def test_bad_pictures_are_refused_with_a_reason(segmenting: RunningServer, case: str) -> None:
    make, words = BAD_PICTURES[case]
    with connected(segmenting) as client, pytest.raises(triton.InferenceServerException, match=words) as caught:
        client.infer(SEGMENTER, [make()])
    assert caught.value.status() == "400"


def test_what_is_no_class_cannot_be_named(segmenting: RunningServer) -> None:
    wanted = triton.InferRequestedOutput("mask", class_count=2)
    frames = frames_input(COLOURS[blocks(64, 64, 1)][None])
    with connected(segmenting) as client, pytest.raises(triton.InferenceServerException, match="no classes to name"):
        client.infer(SEGMENTER, [frames], outputs=[wanted])


def test_large_tensor_is_not_written_as_json(tmp_path: Path) -> None:
    write_segmenter(tmp_path / "repository")
    with serving(tmp_path, repository=tmp_path / "repository", max_json_bytes=20_000) as server:
        wanted = triton.InferRequestedOutput("mask", binary_data=False)
        frames = frames_input(COLOURS[blocks(64, 96, 1)][None])
        with connected(server) as client:
            with pytest.raises(triton.InferenceServerException, match='"binary_data": true'):
                client.infer(SEGMENTER, [frames], outputs=[wanted])
            assert client.infer(SEGMENTER, [frames]).as_numpy("mask").shape == (1, 64, 96)


@pytest.mark.parametrize("step", ["reception.parse_request", "inference.infer_response"])
def test_others_are_answered_while_a_large_tensor_is_read_or_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, step: str
) -> None:
    module, _, function = f"service.api.v2.{step}".rpartition(".")
    work = getattr(importlib.import_module(module), function)
    begun, may_go_on = threading.Event(), threading.Event()

    def wait_and_work(*args: Any) -> Any:
        begun.set()
        assert may_go_on.wait(20)
        return work(*args)

    monkeypatch.setattr(f"{module}.{function}", wait_and_work)
    write_segmenter(tmp_path)
    settings = Settings(repository=tmp_path, decode_workers=1)
    masks = np.stack([blocks(256, 256, seed) for seed in range(2)])
    tensor = {"name": "frames", "shape": [2, 256, 256, 3], "datatype": "UINT8", "data": COLOURS[masks].tolist()}
    with running(create_app(settings), settings) as url, ThreadPoolExecutor(1) as client:
        asked = client.submit(httpx.post, f"{url}/v2/models/{SEGMENTER}/infer", json={"inputs": [tensor]}, timeout=60)
        assert begun.wait(20)
        assert httpx.get(f"{url}/healthz", timeout=10).status_code == 200
        may_go_on.set()
        np.testing.assert_array_equal(asked.result().json()["outputs"][0]["data"], masks.ravel())


def test_batch_waits_for_the_views_of_a_request_and_not_in_vain(tmp_path: Path) -> None:
    # The delay is longer than any request may take: one that waited for it would be answered with 504.
    with serving(tmp_path, max_queue_delay=600, request_timeout=30, decode_workers=1) as server:
        with connected(server) as client:
            # One worker decodes one clip after the other, and still they run together.
            clips = client.infer(MODEL, [clip_input(CLIP, PICTURE, CLIP)])
            assert clips.get_response()["parameters"] == {"batch_size": 3}
            assert client.infer(MODEL, [frames_input(FRAMES)]).as_numpy("logits").shape == (3, 11)
            assert client.infer(SEGMENTOR, [clip_input(PICTURE, PICTURE)]).as_numpy("mask").shape[0] == 2
        for asked in ("classify", "classify?show=frames", "segment?fps=3", "segment?show=frames"):
            assert httpx.post(f"{server.url}/v1/{asked}", content=CLIP, timeout=60).status_code == 200


def seconds_of(server: RunningServer, stage: str) -> float:
    """Return what the metrics say that a stage of all requests took together."""
    families = text_string_to_metric_families(server.metrics())
    name = f"clipserve_{stage}_duration_seconds"
    samples = (sample for family in families if family.name == name for sample in family.samples)
    return sum(sample.value for sample in samples if sample.name == f"{name}_sum")


def test_stages_of_pictures_one_after_the_other_add_up(server: RunningServer) -> None:
    stages = ("decode", "queue", "inference")
    before = {stage: seconds_of(server, stage) for stage in stages}
    body, length = triton.InferenceServerClient.generate_request_body([clip_input(*[PICTURE] * 4)])
    answer = post(server, body, f"/v2/models/{SEGMENTOR}/infer", Inference_Header_Content_Length=str(length))
    assert answer.status_code == 200
    told = dict(entry.split(";dur=") for entry in answer.headers["server-timing"].split(", "))
    timing = {stage: float(milliseconds) / 1000 for stage, milliseconds in told.items()}
    for stage in stages:
        # What the header gives is rounded.
        assert timing[stage] == pytest.approx(seconds_of(server, stage) - before[stage], abs=0.002)
    assert timing["receive"] + sum(timing[stage] for stage in stages) <= timing["total"] + 0.002

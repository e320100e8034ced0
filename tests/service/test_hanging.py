"""A runtime that does not return, against a real server: a graph that loops for as long as a picture is bright."""

import json
import signal
from concurrent.futures import ThreadPoolExecutor
from io import BytesIO
from pathlib import Path

import httpx
import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper
from PIL import Image

from tests.classifier import CLASSES, SIDE, write_classifier, write_manifest
from tests.server import RunningServer, serving

# At one microsecond a trip, by brightness: nothing, six seconds, and two and a half years.
TRIPS = {200: 0, 207: 7**8, 255: 55**8}


def picture(brightness: int) -> bytes:
    file = BytesIO()
    Image.new("RGB", (SIDE, SIDE), (brightness,) * 3).save(file, "PNG")
    return file.getvalue()


QUICK, SLOW, ENDLESS = map(picture, TRIPS)


def write_looping_classifier(repository: Path, name: str) -> None:
    """Write a model that answers with class 1 after max(0, brightness - 200) ** 8 trips of a loop."""
    folder = write_classifier(repository, name, 1)
    row = np.zeros((1, CLASSES), np.float32)
    row[0, 1] = 10
    constants = {"offset": np.float32(200), "exponent": np.float32(8), "go": np.bool_(True), "row": row}
    constants |= {"start": np.float32(0), "axes": np.array([1, 2, 3])}
    constants |= {"last": np.array([1])}
    scalar = helper.make_tensor_value_info
    body = helper.make_graph(
        [
            helper.make_node("Identity", ["going"], ["goes_on"]),
            helper.make_node("Mul", ["before", "before"], ["after"]),
        ],
        "trip",
        [
            scalar("number", TensorProto.INT64, []),
            scalar("going", TensorProto.BOOL, []),
            scalar("before", TensorProto.FLOAT, []),
        ],
        [scalar("goes_on", TensorProto.BOOL, []), scalar("after", TensorProto.FLOAT, [])],
    )
    nodes = [
        helper.make_node("Cast", ["frames"], ["pixels"], to=TensorProto.FLOAT),
        helper.make_node("ReduceMean", ["pixels", "axes"], ["means"], keepdims=0),
        helper.make_node("ReduceMax", ["means"], ["brightest"], keepdims=0),
        helper.make_node("Sub", ["brightest", "offset"], ["above"]),
        helper.make_node("Relu", ["above"], ["bright"]),
        helper.make_node("Pow", ["bright", "exponent"], ["power"]),
        helper.make_node("Cast", ["power"], ["trips"], to=TensorProto.INT64),
        helper.make_node("Loop", ["trips", "go", "start"], ["nothing"], body=body),
        helper.make_node("Mul", ["means", "nothing"], ["zeros"]),
        helper.make_node("Unsqueeze", ["zeros", "last"], ["column"]),
        helper.make_node("Add", ["column", "row"], ["logits"]),
    ]
    graph = helper.make_graph(
        nodes,
        "loop",
        [helper.make_tensor_value_info("frames", TensorProto.UINT8, ["batch", SIDE, SIDE, 3])],
        [helper.make_tensor_value_info("logits", TensorProto.FLOAT, ["batch", CLASSES])],
        [numpy_helper.from_array(np.asarray(value), name) for name, value in constants.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10)
    onnx.save(model, folder / "model.onnx")
    write_manifest(folder)


def classify(server: RunningServer, model: str, content: bytes) -> httpx.Response:
    return httpx.post(f"{server.url}/v1/models/{model}/classify", content=content, timeout=120)


def readiness(server: RunningServer) -> httpx.Response:
    return httpx.get(f"{server.url}/readyz")


def failures(server: RunningServer, model: str) -> int:
    """Return how many requests the statistics count as failed."""
    (found,) = httpx.get(f"{server.url}/v2/models/{model}/stats").json()["model_stats"]
    count: int = found["inference_stats"]["fail"]["count"]
    return count


def test_hanging_run_makes_its_model_alone_refuse_until_it_returns(tmp_path: Path) -> None:
    models = tmp_path / "models"
    write_looping_classifier(models, "looping")
    write_classifier(models, "other", 1)
    # The other model has as much time as it likes.
    own = json.dumps({"looping": {"runtime_timeout": 1}})
    with serving(tmp_path, repository=models, models=own, decode_workers=1) as server, ThreadPoolExecutor(1) as client:
        assert classify(server, "looping", QUICK).status_code == 200
        slow = client.submit(classify, server, "looping", SLOW)
        server.wait_for(lambda: readiness(server).status_code == 503)

        problem = readiness(server).json()
        assert problem["code"] == "not_ready"
        assert "a run has not returned within 1 s" in problem["detail"]
        assert "looping" not in problem["detail"]
        assert httpx.get(f"{server.url}/healthz").status_code == 200
        assert httpx.get(f"{server.url}/v2/models/other/ready").status_code == 200
        assert httpx.get(f"{server.url}/v2/models/looping/ready").status_code == 503
        failed = failures(server, "looping")
        refused = classify(server, "looping", QUICK)
        assert (refused.status_code, refused.json()["code"]) == (503, "not_ready")
        assert int(refused.headers["retry-after"]) >= 1
        assert failures(server, "looping") == failed + 1
        assert "looping takes no requests: a run has not returned within 1 s" in refused.json()["detail"]
        assert classify(server, "other", QUICK).status_code == 200
        states = {
            model["name"]: model["versions"][0] for model in httpx.get(f"{server.url}/v1/models").json()["models"]
        }
        assert states["other"]["state"] == "READY"
        assert states["looping"]["state"] == "UNAVAILABLE"
        assert "has not returned" in states["looping"]["reason"]
        metrics = server.metrics()
        # The request alone, and none of the probes.
        assert 'clipserve_requests_rejected_total{reason="not_ready"} 1.0' in metrics
        gauge = 'clipserve_model_version_ready{model="looping",version="1"} '
        assert f"{gauge}0.0" in metrics
        assert not slow.done()

        assert slow.result().status_code == 200
        server.wait_for(lambda: readiness(server).status_code == 200)
        assert classify(server, "looping", QUICK).status_code == 200
        assert f"{gauge}1.0" in server.metrics()
    log = server.log.read_text()
    assert "looping is not ready: a run has not returned within 1 s" in log
    assert "looping: the run has returned after" in log


def test_server_leaves_in_time_though_a_run_hangs(tmp_path: Path) -> None:
    models = tmp_path / "models"
    write_looping_classifier(models, "looping")
    limits = {"runtime_timeout": 1, "drain_timeout": 2, "decode_workers": 1}
    with serving(tmp_path, repository=models, **limits) as server, ThreadPoolExecutor(1) as client:
        endless = client.submit(classify, server, "looping", ENDLESS)
        server.wait_for(lambda: readiness(server).status_code == 503)
        server.process.send_signal(signal.SIGTERM)
        answer = endless.result()
        assert (answer.status_code, answer.json()["code"]) == (503, "not_ready")
        assert "not done within the 2 s" in answer.json()["detail"]
        assert server.process.wait(60) == 0

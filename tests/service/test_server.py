"""A real server, real clips: what a client sees."""

import asyncio
import gzip
import io
import json
import os
import shutil
import signal
import socket
import statistics
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest
from PIL import Image

from demo.clips import encode_frames, encode_picture, generate_clip, generate_file, h264, mpeg4, vp9
from demo.shapes import LABELS, MIRRORED, RED_BLUE_SWAPPED, REVERSED, TRANSPOSED, UPSIDE_DOWN, render_picture
from tests.media import encode, with_rotation
from tests.server import RunningServer, begun_upload, serving, unless

SEED = 77
MOVING_RIGHT = generate_clip(SEED, LABELS.index("moving right"))
MP4 = encode_frames(MOVING_RIGHT.frames, MOVING_RIGHT.fps, h264(20))


def classify(server: RunningServer, content: bytes, **query: Any) -> httpx.Response:
    return httpx.post(f"{server.url}/v1/classify", content=content, params=query, timeout=60)


def top_label(server: RunningServer, content: bytes) -> str:
    answer = classify(server, content)
    assert answer.status_code == 200, answer.text
    label: str = answer.json()["predictions"][0]["label"]
    return label


def assert_problem(answer: httpx.Response, status: int, code: str) -> str:
    assert answer.status_code == status, answer.text
    assert answer.headers["content-type"] == "application/problem+json"
    problem = answer.json()
    assert (problem["status"], problem["code"]) == (status, code)
    assert set(problem) == {"type", "title", "status", "detail", "code", "request_id"}
    assert problem["request_id"] == answer.headers["x-request-id"]
    detail: str = problem["detail"]
    return detail


def without_timing(answer: httpx.Response) -> dict[str, Any]:
    body: dict[str, Any] = answer.json()
    del body["timing_seconds"], body["batch_size"]
    return body


def test_multipart_and_raw_body_give_the_same_answer(server: RunningServer) -> None:
    raw = classify(server, MP4)
    form = httpx.post(f"{server.url}/v1/classify", files={"file": ("../../etc/passwd\0.m3u8", MP4)}, timeout=60)
    typed = httpx.post(
        f"{server.url}/v1/models/uniformer_tiny_shapes/classify",
        files={"file": ("clip.mp4", MP4, "video/mp4")},
        timeout=60,
    )
    assert raw.status_code == form.status_code == typed.status_code == 200
    assert without_timing(raw) == without_timing(form) == without_timing(typed)


def test_answer_has_every_field(server: RunningServer) -> None:
    body = classify(server, MP4, top_k=3).json()
    assert (body["model"], body["version"]) == ("uniformer_tiny_shapes", "1")
    assert [set(prediction) for prediction in body["predictions"]] == [{"index", "label", "score"}] * 3
    assert body["predictions"][0]["label"] == LABELS[body["predictions"][0]["index"]] == "moving right"
    scores = [prediction["score"] for prediction in body["predictions"]]
    assert 1 >= scores[0] >= scores[1] >= scores[2] >= 0
    height, width = MOVING_RIGHT.frames.shape[1:3]
    assert body["media"] == {
        "kind": "video",
        "format": "mp4",
        "codec": "h264",
        "width": width,
        "height": height,
        "frames": len(MOVING_RIGHT.frames),
        "fps": MOVING_RIGHT.fps,
        "duration_seconds": pytest.approx(len(MOVING_RIGHT.frames) / MOVING_RIGHT.fps, abs=0.01),
        "rotation": 0,
    }
    (view,) = body["views"]
    assert (view["clip"], view["crop"], len(view["frames"])) == (0, "center", 8)
    assert body["batch_size"] >= 1


@pytest.mark.parametrize("number", range(len(LABELS)))
@pytest.mark.parametrize("encoding", [h264(22), vp9(32), mpeg4(4)], ids=lambda encoding: encoding.container)
def test_every_class_is_recognised_in_every_container(server: RunningServer, number: int, encoding: Any) -> None:
    clip = generate_clip(SEED + 1, number)
    assert top_label(server, encode_frames(clip.frames, clip.fps, encoding)) == clip.label


CHANGES = {
    "reversed": (lambda frames: frames[::-1], REVERSED),
    "mirrored": (lambda frames: frames[:, :, ::-1], MIRRORED),
    "upside down": (lambda frames: frames[:, ::-1], UPSIDE_DOWN),
    "transposed": (lambda frames: frames.transpose(0, 2, 1, 3), TRANSPOSED),
    "red and blue swapped": (lambda frames: frames[..., ::-1], RED_BLUE_SWAPPED),
}


@pytest.mark.parametrize("change", CHANGES)
@pytest.mark.parametrize("number", range(len(LABELS)))
def test_changed_clip_changes_the_answer_as_its_label_says(server: RunningServer, number: int, change: str) -> None:
    clip = generate_clip(SEED + 2, number)
    apply, labels = CHANGES[change]
    frames = np.ascontiguousarray(apply(clip.frames))
    expected = labels.get(clip.label, clip.label)
    assert top_label(server, encode_frames(frames, clip.fps, h264(20))) == expected


# A viewer turns the stored pixels clockwise; what moves right in them then moves this way.
@pytest.mark.parametrize(
    ("clockwise", "label"), [(90, "moving down"), (180, "moving left"), (270, "moving up"), (0, "moving right")]
)
def test_rotated_phone_video_is_seen_upright(server: RunningServer, clockwise: int, label: str) -> None:
    answer = classify(server, with_rotation(MP4, clockwise)).json()
    assert answer["predictions"][0]["label"] == label
    assert answer["media"]["rotation"] == clockwise


@pytest.mark.parametrize("seed", range(5))
def test_picture_is_still(server: RunningServer, seed: int) -> None:
    picture = render_picture(np.random.default_rng((SEED, seed)))
    answer = classify(server, encode_picture(picture)).json()
    assert answer["predictions"][0]["label"] == "still"
    assert (answer["media"]["kind"], answer["media"]["frames"]) == ("image", 1)
    assert set(answer["views"][0]["frames"]) == {0}


def test_views_and_part_of_the_video_can_be_chosen(server: RunningServer) -> None:
    body = classify(server, MP4, clips=2, crops=3).json()
    assert [view["clip"] for view in body["views"]] == [0, 0, 0, 1, 1, 1]
    height, width = MOVING_RIGHT.frames.shape[1:3]
    ends = ["left", "right"] if height <= width else ["top", "bottom"]
    assert [view["crop"] for view in body["views"][:3]] == [ends[0], "center", ends[1]]
    part = classify(server, MP4, start=0.4, end=0.8).json()
    frames = part["views"][0]["frames"]
    assert min(frames) >= 0.4 * MOVING_RIGHT.fps - 1e-6
    assert max(frames) < 0.8 * MOVING_RIGHT.fps


@pytest.mark.parametrize(
    ("query", "words"),
    [
        ({"top_k": 0}, "top_k"),
        ({"top_k": "many"}, "many"),
        ({"crops": 2}, "1 or 3"),
        ({"crops": "abc"}, "crops='abc': should be 1 or 3"),
        ({"clips": 1000}, "1000 clips x 1 crops are 1000 views; the limit is 30"),
        ({"start": 2, "end": 1}, "end=1.0 must lie after start=2.0"),
        ({"start": 999}, "no frame shows then"),
        ({"start": "nan"}, "start"),
        ({"topk": 3}, "topk: no parameter is called so; did you mean top_k?"),
        ({"bananas": 3}, "bananas: no parameter is called so; there are "),
        ({"bananas": 3}, " clips, crops, "),
        ({"top_k": [1, 2], "clips": 2}, "top_k is given 2 times: give it once"),
    ],
)
def test_bad_parameter_is_named(server: RunningServer, query: dict[str, Any], words: str) -> None:
    assert words in assert_problem(classify(server, MP4, **query), 400, "bad_parameter")


def test_unknown_model_lists_the_known_ones(server: RunningServer) -> None:
    answer = httpx.post(f"{server.url}/v1/models/nothing/classify", content=MP4)
    assert "uniformer_tiny_shapes" in assert_problem(answer, 404, "unknown_model")
    assert_problem(httpx.get(f"{server.url}/v1/models/nothing"), 404, "unknown_model")
    assert_problem(httpx.get(f"{server.url}/nowhere"), 404, "not_found")
    assert_problem(httpx.get(f"{server.url}/v1/classify"), 405, "method_not_allowed")


@pytest.mark.parametrize(
    "path", ["/v1/models/", "/v1/classify/", "/healthz/", "/v2/models/", "/redoc", "/docs/oauth2-redirect"]
)
def test_path_that_does_not_exist_is_named_and_redirects_nobody(server: RunningServer, path: str) -> None:
    answer = httpx.request(
        "POST" if "classify" in path else "GET", f"{server.url}{path}", headers={"Host": "a.example"}
    )
    assert "location" not in answer.headers
    assert "a.example" not in answer.text
    if path.startswith("/v2"):
        assert answer.status_code == 404
        assert path in answer.json()["error"]
    else:
        assert path in assert_problem(answer, 404, "not_found")


@pytest.mark.parametrize(
    ("content", "status", "code"),
    [
        (b"just some text, no video\n" * 20, 415, "unsupported_media"),
        (b"", 400, "bad_parameter"),
        (MP4[: len(MP4) // 2], 422, "undecodable_media"),
        (MP4[:100], 422, "undecodable_media"),
    ],
    ids=["text", "empty", "half an mp4", "a header alone"],
)
def test_bad_upload_is_refused_and_the_next_good_one_works(
    server: RunningServer, content: bytes, status: int, code: str
) -> None:
    assert_problem(classify(server, content), status, code)
    assert top_label(server, MP4) == "moving right"


@pytest.mark.parametrize(
    ("content_type", "body", "words"),
    [
        ("multipart/form-data", b"x", "boundary"),
        ("multipart/form-data; boundary=" + "b" * 5000, b"x", "broken"),
        ("multipart/form-data; boundary=b", b"--b\r\nnonsense", "form"),
        (
            "multipart/form-data; boundary=b",
            b'--b\r\nContent-Disposition: form-data; name="file"\r\n\r\nabc',
            "last boundary",
        ),
        (
            "multipart/form-data; boundary=b",
            b'--b\r\nContent-Disposition: form-data; name="clip"\r\n\r\nabc\r\n--b--\r\n',
            "a part 'clip', and takes `file` alone",
        ),
        ("multipart/form-data; boundary=b", b"--b\r\nX-Header: x\r\n\r\nabc\r\n--b--\r\n", "a part without a name"),
        ("multipart/form-data; boundary=b", b"--b--\r\n", "no part `file`"),
        (
            "multipart/form-data; boundary=b",
            b"A preamble.\r\n--b\r\nContent-Disposition: form-data; name=file\r\n\r\nabc\r\n--b--\r\n",
            "must begin with the boundary",
        ),
    ],
    ids=["no boundary", "long boundary", "nonsense", "no end", "other name", "no name", "empty", "preamble"],
)
def test_broken_form_is_a_bad_parameter(server: RunningServer, content_type: str, body: bytes, words: str) -> None:
    answer = httpx.post(f"{server.url}/v1/classify", content=body, headers={"Content-Type": content_type})
    assert words in assert_problem(answer, 400, "bad_parameter")


@pytest.mark.parametrize("first", ["file", "top_k"])
def test_field_beside_the_file_is_refused(server: RunningServer, first: str) -> None:
    # As `curl -F file=@clip.mp4 -F top_k=1` sends it.
    parts = [("file", ("clip.mp4", MP4)), ("top_k", (None, b"1"))]
    answer = httpx.post(f"{server.url}/v1/classify", files=sorted(parts, reverse=first == "top_k"), timeout=60)
    detail = assert_problem(answer, 400, "bad_parameter")
    assert "'top_k'" in detail
    assert "options go into the query (?top_k=1)" in detail


def test_second_file_of_a_form_is_refused(server: RunningServer) -> None:
    answer = httpx.post(f"{server.url}/v1/classify", files=[("file", MP4), ("file", MP4)], timeout=60)
    assert "more than one part `file`" in assert_problem(answer, 400, "bad_parameter")


@pytest.mark.parametrize("encoding", ["gzip", "br, GZIP"])
def test_compressed_body_is_refused_by_its_name(server: RunningServer, encoding: str) -> None:
    for path in ("/v1/classify", "/v1/segment", "/v2/models/uniformer_tiny_shapes/infer"):
        answer = httpx.post(f"{server.url}{path}", content=gzip.compress(MP4), headers={"Content-Encoding": encoding})
        assert answer.status_code == 415
        assert f"compressed (Content-Encoding: {encoding})" in answer.text


def test_body_that_says_it_is_not_compressed_is_taken(server: RunningServer) -> None:
    answer = httpx.post(f"{server.url}/v1/classify", content=MP4, headers={"Content-Encoding": "Identity"}, timeout=60)
    assert answer.status_code == 200


def test_two_hundred_concurrent_requests_all_get_the_right_answer(server: RunningServer) -> None:
    files = [generate_file(SEED + 3, number) for number in range(len(LABELS))]
    alone = [without_timing(classify(server, content)) for content, _ in files]

    async def load() -> list[httpx.Response]:
        limits = httpx.Limits(max_connections=None)
        async with httpx.AsyncClient(timeout=120, limits=limits) as client:
            return await asyncio.gather(
                *(client.post(f"{server.url}/v1/classify", content=files[i % len(files)][0]) for i in range(200))
            )

    answers = asyncio.run(load())
    assert {answer.status_code for answer in answers} == {200}
    for i, answer in enumerate(answers):
        together, single = without_timing(answer), alone[i % len(files)]
        assert together["predictions"][0]["label"] == single["predictions"][0]["label"]
        assert together["views"] == single["views"]
        scores = [[p["score"] for p in body["predictions"]] for body in (together, single)]
        assert scores[0] == pytest.approx(scores[1], abs=1e-4)
    assert max(answer.json()["batch_size"] for answer in answers) > 1


def test_clips_of_different_resolutions_share_a_batch(tmp_path: Path) -> None:
    wide = [np.repeat(frame, 2, axis=1) for frame in MOVING_RIGHT.frames]
    contents = [MP4, encode_frames(np.stack(wide), MOVING_RIGHT.fps, h264(20))]
    with serving(tmp_path, max_queue_delay=30, max_batch_size=6) as server:
        alone = [classify(server, content).json() for content in contents]
        with ThreadPoolExecutor(6) as callers:
            answers = [answer.json() for answer in callers.map(lambda i: classify(server, contents[i % 2]), range(6))]
    sizes = [[answer["media"][side] for side in ("width", "height")] for answer in alone]
    assert sizes[0] != sizes[1]
    # Three are of each resolution.
    assert max(answer["batch_size"] for answer in answers) > 3
    for i, answer in enumerate(answers):
        scores = [[entry["score"] for entry in body["predictions"]] for body in (answer, alone[i % 2])]
        assert scores[0] == pytest.approx(scores[1], abs=1e-4)


def test_timing_adds_up_to_the_total(server: RunningServer) -> None:
    shares = []
    for _ in range(30):
        timing = classify(server, MP4).json()["timing_seconds"]
        total = timing.pop("total")
        shares.append(sum(timing.values()) / total)
    assert statistics.median(shares) == pytest.approx(1, abs=0.1)


def test_models_are_described(server: RunningServer) -> None:
    defaults = {m["task"]: m["name"] for m in httpx.get(f"{server.url}/v1/models").json()["models"] if m["default"]}
    assert defaults == {
        "video_classification": "uniformer_tiny_shapes",
        "image_segmentation": "uniformer_tiny_shapes_fpn",
    }
    details = httpx.get(f"{server.url}/v1/models/uniformer_tiny_shapes").json()
    assert details["labels"] == list(LABELS)
    assert details["manifest"]["inputs"][0]["shape"] == ["batch", 8, 96, 96, 3]


def test_health_metrics_and_documentation_answer(server: RunningServer) -> None:
    assert httpx.get(f"{server.url}/healthz").json() == {"status": "alive"}
    assert httpx.get(f"{server.url}/readyz").json() == {"status": "ready"}
    assert httpx.get(f"{server.url}/docs").status_code == 200

    def clips() -> float:
        lines = httpx.get(f"{server.url}/metrics").text.splitlines()
        return sum(float(line.split()[-1]) for line in lines if line.startswith("clipserve_clips_total"))

    before = clips()
    classify(server, MP4)
    assert clips() == before + 1


@pytest.mark.parametrize("path", ["/", "/healthz", "/readyz", "/v1/models", "/v2/health/live", "/v2/health/ready"])
def test_head_is_answered_as_get_without_the_body(server: RunningServer, path: str) -> None:
    with httpx.Client(base_url=server.url) as client:
        whole, head, again = client.get(path), client.head(path), client.get(path)
    assert (head.status_code, head.content) == (200, b"")
    changing = ("date", "x-request-id")
    for name, value in whole.headers.items():
        assert name in changing or head.headers[name] == value
    # On the same connection: nothing of the body was left on it.
    assert again.content == whole.content


@pytest.mark.parametrize(
    ("method", "path", "allowed"),
    [
        ("DELETE", "/v1/models", {"GET", "HEAD"}),
        ("POST", "/v2/models", {"GET", "HEAD"}),
        ("GET", "/v1/classify", {"POST"}),
        ("HEAD", "/v1/classify", {"POST"}),
    ],
)
def test_what_a_path_takes_is_named(server: RunningServer, method: str, path: str, allowed: set[str]) -> None:
    answer = httpx.request(method, f"{server.url}{path}")
    assert answer.status_code == 405
    assert set(answer.headers["allow"].split(", ")) == allowed


def test_head_is_refused_where_get_is(server: RunningServer) -> None:
    for path, status in (("/v1/classify", 405), ("/v1/models/nothing", 404), ("/v2/models/nothing", 404)):
        answer = httpx.head(f"{server.url}{path}")
        assert (answer.status_code, answer.content) == (status, b"")


def test_body_over_the_limit_is_refused_before_it_is_read(tmp_path: Path) -> None:
    with serving(tmp_path, max_body_bytes=100_000) as server:
        assert "the limit is 100000" in assert_problem(classify(server, b"\0" * 100_001), 413, "payload_too_large")
        endless = (b"\0" * 10_000 for _ in range(1_000))
        answer = httpx.post(f"{server.url}/v1/classify", content=endless)
        assert_problem(answer, 413, "payload_too_large")
        form = httpx.post(f"{server.url}/v1/classify", files={"file": b"\0" * 150_000})
        assert_problem(form, 413, "payload_too_large")
        # A length that never comes must not be waited for.
        host, port = server.url.removeprefix("http://").split(":")
        with socket.create_connection((host, int(port)), timeout=5) as connection:
            connection.sendall(b"POST /v1/classify HTTP/1.1\r\nHost: x\r\nContent-Length: 1000000000000000\r\n\r\n")
            assert connection.recv(4096).startswith(b"HTTP/1.1 413")


@pytest.mark.parametrize(("before", "after"), [(b"\r\n" * 50_000, b""), (b"", b"x" * 100_000)], ids=["before", "after"])
def test_form_is_capped_beside_its_file(server: RunningServer, before: bytes, after: bytes) -> None:
    form = b'--b\r\nContent-Disposition: form-data; name="file"\r\n\r\nabc\r\n--b--\r\n'
    headers = {"Content-Type": "multipart/form-data; boundary=b"}
    answer = httpx.post(f"{server.url}/v1/classify", content=before + form + after, headers=headers)
    assert "65536 bytes" in assert_problem(answer, 413, "payload_too_large")


def test_uploads_that_would_fill_the_memory_are_shed(tmp_path: Path) -> None:
    limits = {"max_body_bytes": len(MP4), "max_upload_memory_bytes": len(MP4), "upload_idle_timeout": 60}
    with serving(tmp_path, **limits) as server:
        assert classify(server, MP4).status_code == 200
        with begun_upload(server, MP4, sent=len(MP4) - 1) as holding:
            # The server may still be reading what the other one sent.
            answer = server.wait_for(lambda: unless(classify(server, MP4), 200))
            assert_problem(answer, 429, "queue_full")
            assert int(answer.headers["retry-after"]) >= 1
            holding.sendall(MP4[-1:])
            assert holding.recv(100).startswith(b"HTTP/1.1 200")
        # What refused uploads had taken is given back.
        assert [classify(server, MP4).status_code for _ in range(3)] == [200, 200, 200]


def test_upload_that_comes_too_slowly_meets_the_deadline(tmp_path: Path) -> None:
    with serving(tmp_path, request_timeout=1.0) as server:
        host, port = server.url.removeprefix("http://").split(":")
        with socket.create_connection((host, int(port)), timeout=20) as connection:
            connection.sendall(b"POST /v1/classify HTTP/1.1\r\nHost: x\r\nContent-Length: 100000\r\n\r\n")
            connection.sendall(MP4[:5])
            assert connection.recv(4096).startswith(b"HTTP/1.1 504")
        assert top_label(server, MP4) == "moving right"


def wait_for_workers(server: RunningServer, count: int) -> None:
    server.wait_for(lambda: len(server.worker_pids()) == count)


def test_killed_worker_costs_only_the_requests_it_held(tmp_path: Path) -> None:
    with serving(tmp_path, decode_workers=2) as server:
        stop = time.monotonic() + 6

        def client(number: int) -> list[httpx.Response]:
            answers = []
            while time.monotonic() < stop:
                answers.append(classify(server, generate_file(SEED, number)[0]))
            return answers

        with ThreadPoolExecutor(6) as executor:
            futures = [executor.submit(client, number) for number in range(6)]
            kills = 0
            while time.monotonic() < stop - 2:
                time.sleep(1)
                # On a busy machine, the one that was killed last may still be starting again.
                for victim in server.worker_pids()[:1]:
                    os.kill(victim, signal.SIGKILL)
                    kills += 1
            answers = [answer for future in futures for answer in future.result()]
        failed = [answer for answer in answers if answer.status_code != 200]
        assert kills > 0
        assert len(failed) <= kills
        for answer in failed:
            assert "send the request again" in assert_problem(answer, 500, "decode_worker_lost")
        assert len(answers) > len(failed)
        assert top_label(server, MP4) == "moving right"
        wait_for_workers(server, 2)


def test_client_that_leaves_does_not_disturb(server: RunningServer) -> None:
    host, port = server.url.removeprefix("http://").split(":")
    for sent in (20, len(MP4)):
        with socket.create_connection((host, int(port))) as connection:
            head = f"POST /v1/classify HTTP/1.1\r\nHost: x\r\nContent-Length: {len(MP4)}\r\n\r\n"
            connection.sendall(head.encode() + MP4[:sent])
    assert top_label(server, MP4) == "moving right"


def test_empty_repository_stops_the_start_with_a_reason(tmp_path: Path) -> None:
    with pytest.raises(AssertionError, match="holds no model"), serving(tmp_path, repository=tmp_path):
        pass


def test_changed_artefact_stops_the_start_with_a_reason(tmp_path: Path, artefact_repository: Path) -> None:
    copy = tmp_path / "repository"
    shutil.copytree(artefact_repository, copy)
    labels = next(copy.glob("uniformer_tiny_shapes/*/labels.txt"))
    labels.write_text(labels.read_text().replace("still", "quiet"))
    with pytest.raises(AssertionError, match="sha256 differs"), serving(tmp_path, repository=copy):
        pass


def test_openapi_describes_the_upload(server: RunningServer) -> None:
    document = json.loads(httpx.get(f"{server.url}/openapi.json").content)
    body = document["paths"]["/v1/classify"]["post"]["requestBody"]["content"]
    assert {"multipart/form-data", "application/octet-stream"} <= set(body)


@pytest.mark.parametrize(
    ("method", "path", "content"),
    [
        ("POST", "/v1/classify", b"text"),
        ("POST", "/v1/segment?fps=0", b"clip"),
        ("POST", "/v1/models/{name}/classify", b"clip"),
        ("GET", "/v1/models/{name}", b""),
        ("GET", "/v2/models/{name}", b""),
        ("POST", "/v2/models/{name}/infer", b"{}"),
    ],
)
def test_openapi_describes_errors_as_they_come(server: RunningServer, method: str, path: str, content: bytes) -> None:
    document = httpx.get(f"{server.url}/openapi.json").json()
    answer = httpx.request(method, server.url + path.format(name="nobody"), content=content)
    assert answer.status_code >= 400
    responses = document["paths"][path.split("?")[0]][method.lower()]["responses"]
    described = responses.get(str(answer.status_code), responses["default"])
    ((kind, form),) = described["content"].items()
    assert answer.headers["content-type"] == kind
    schema = form["schema"]
    if name := schema.get("$ref"):
        schema = document["components"]["schemas"][name.rsplit("/", 1)[1]]
    assert set(schema["required"]) == set(answer.json())


def test_show_frames_is_a_sheet_of_exactly_what_the_network_sees(server: RunningServer) -> None:
    # Frames of one colour each, kept exactly by a lossless codec: any frame can be told from its pixels.
    frames = np.zeros((60, 120, 160, 3), np.uint8)
    frames[:] = np.stack([np.arange(60) * 4, 250 - np.arange(60) * 4, np.full(60, 90)], axis=1)[:, None, None]
    clip = encode(frames, codec="ffv1", container="matroska", pix_fmt="bgr0", fps=20)
    sheet = classify(server, clip, clips=2, crops=3, show="frames")
    assert sheet.headers["content-type"] == "image/png"
    pixels = np.asarray(Image.open(io.BytesIO(sheet.content)))
    views = classify(server, clip, clips=2, crops=3).json()["views"]
    wanted = [tuple(frames[number, 0, 0]) for view in views for number in view["frames"]]
    size = httpx.get(f"{server.url}/v1/models/uniformer_tiny_shapes").json()["input_shape"][2:4]
    for colour in set(wanted):
        shown = int((pixels == colour).all(axis=2).sum())
        assert shown == wanted.count(colour) * size[0] * size[1], colour


def test_other_things_to_show_are_named(server: RunningServer) -> None:
    answer = classify(server, MP4, show="views")
    assert "'answer' or 'frames'" in assert_problem(answer, 400, "bad_parameter")

"""A real server with more work than it can do."""

import asyncio
import json
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx
import pytest

from tests.command import clipserve
from tests.media import encode, numbered_frames
from tests.server import RunningServer, serving

CLIP = (Path(__file__).parents[2] / "demo/media/sample.mp4").read_bytes()
MODEL = "uniformer_tiny_shapes"


def metric(server: RunningServer, series: str) -> float:
    lines = [line for line in server.metrics().splitlines() if line.startswith(series)]
    return sum(float(line.split()[-1]) for line in lines)


def wait_for_queue(server: RunningServer) -> None:
    server.wait_for(lambda: metric(server, f'clipserve_queue_depth{{model="{MODEL}",queue="batch"}}'))


def burst(server: RunningServer, count: int, **query: str) -> list[httpx.Response]:
    async def post_all() -> list[httpx.Response]:
        async with httpx.AsyncClient(timeout=120, limits=httpx.Limits(max_connections=None)) as client:
            posts = (client.post(f"{server.url}/v1/classify", content=CLIP, params=query) for _ in range(count))
            return await asyncio.gather(*posts)

    return asyncio.run(post_all())


def assert_shed(answer: httpx.Response, code: str) -> None:
    assert (answer.status_code, answer.json()["code"]) == (429, code)
    assert answer.headers["content-type"] == "application/problem+json"
    assert int(answer.headers["retry-after"]) >= 1


def test_overload_is_shed_and_what_was_accepted_is_done(tmp_path: Path) -> None:
    with serving(tmp_path, decode_workers=1, max_waiting_uploads=4) as server:
        answers = burst(server, 60)
        shed = [answer for answer in answers if answer.status_code != 200]
        assert 0 < len(shed) < 60
        for answer in shed:
            assert_shed(answer, "queue_full")
            assert "4 uploads are waiting" in answer.json()["detail"]
        assert metric(server, 'clipserve_requests_rejected_total{reason="queue_full"}') == len(shed)
        assert metric(server, "clipserve_queue_depth") == 0
        assert httpx.post(f"{server.url}/v1/classify", content=CLIP, timeout=60).status_code == 200


def test_normal_requests_take_the_places_of_low_ones_in_a_full_line(tmp_path: Path) -> None:
    clip = encode(numbered_frames(240, 720, 1280), options={"preset": "ultrafast"})
    with serving(tmp_path, decode_workers=1, max_waiting_uploads=3) as server, ThreadPoolExecutor(6) as threads:

        def post(priority: str) -> httpx.Response:
            query: dict[str, str | int] = {"priority": priority, "clips": 10}
            return httpx.post(f"{server.url}/v1/classify", content=clip, params=query, timeout=120)

        low = [threads.submit(post, "low") for _ in range(4)]
        server.wait_for(lambda: metric(server, "clipserve_queue_depth") >= 3)
        normal = [threads.submit(post, "normal") for _ in range(2)]
        assert [answer.result().status_code for answer in normal] == [200, 200]
        refused = [answer.result() for answer in low if answer.result().status_code != 200]
        assert len(refused) == 2
        for answer in refused:
            assert_shed(answer, "queue_full")


def test_what_cannot_be_done_in_time_is_refused_before_it_is_sent(tmp_path: Path) -> None:
    with serving(tmp_path, decode_workers=1, models=json.dumps({MODEL: {"request_timeout": 2}})) as server:
        # The pace becomes known.
        httpx.post(f"{server.url}/v1/classify", content=CLIP, params={"clips": 2}, timeout=60)
        refused = 'clipserve_requests_rejected_total{reason="overloaded"}'
        until = time.monotonic() + 60

        def client(number: int) -> list[httpx.Response]:
            time.sleep(number * 0.05)
            answers = []
            while not metric(server, refused) and time.monotonic() < until:
                answers += burst(server, 1, clips="24")
            return answers

        with ThreadPoolExecutor(40) as executor:
            answers = [answer for received in executor.map(client, range(40)) for answer in received]
        shed = [answer for answer in answers if answer.status_code == 429]
        assert shed
        # Before they are sent, or, where more was waiting than was expected, when their turn comes too late.
        words = ("of the 2 s that a request gets it may wait 75%", "of waiting the request would not be done")
        for answer in shed:
            assert_shed(answer, "overloaded")
            assert any(said in answer.json()["detail"] for said in words)
        assert {answer.status_code for answer in answers} <= {200, 429, 504}
        # Nothing is left of those who ran out of time.
        for gauge in ("clipserve_queue_depth", "clipserve_requests_in_flight"):
            server.wait_for(lambda gauge=gauge: metric(server, gauge) == 0)
        assert httpx.post(f"{server.url}/v1/classify", content=CLIP, timeout=60).status_code == 200


def test_what_waited_too_long_to_be_done_in_time_is_refused_before_it_is_decoded(tmp_path: Path) -> None:
    clip = encode(numbered_frames(120, 720, 1280), options={"preset": "ultrafast"})

    def post_at_once(server: RunningServer, count: int) -> list[httpx.Response]:
        with ThreadPoolExecutor(count) as executor:
            posts = [
                executor.submit(httpx.post, f"{server.url}/v1/classify", content=clip, timeout=60) for _ in range(count)
            ]
            return [post.result() for post in posts]

    with serving(tmp_path, decode_workers=1) as server:
        decode = min(post_at_once(server, 1)[0].json()["timing_seconds"]["decode"] for _ in range(3))
    # Of three at once the last one is accepted, and gets its turn when half of the time that it needs is left.
    with serving(tmp_path, decode_workers=1, request_timeout=2.5 * decode) as server:
        late: list[httpx.Response] = []
        until = time.monotonic() + 120
        while not late and time.monotonic() < until:
            answers = post_at_once(server, 1) + post_at_once(server, 3)
            # Where the machine turns slower meanwhile, some run out of their time all the same.
            assert {answer.status_code for answer in answers} <= {200, 429, 504}
            late = [answer for answer in answers if "of waiting the request would not be done" in answer.text]
    assert late
    assert_shed(late[0], "overloaded")


def test_abandoned_requests_do_not_delay_a_patient_one(tmp_path: Path) -> None:
    with serving(tmp_path, max_batch_size=1, decode_workers=2) as server:
        url = f"{server.url}/v1/classify"
        before = metric(server, "clipserve_batches_total")

        async def scenario() -> httpx.Response:
            async with httpx.AsyncClient(timeout=120) as client:
                leaving = [
                    asyncio.create_task(client.post(url, content=CLIP, params={"clips": 30, "top_k": k}))
                    for k in range(1, 6)
                ]
                await asyncio.to_thread(wait_for_queue, server)
                for task in leaving:
                    task.cancel()
                await asyncio.gather(*leaving, return_exceptions=True)
                return await client.post(url, content=CLIP, params={"clips": 1})

        assert asyncio.run(scenario()).status_code == 200
        # 150 views would have run for those who left; what ran is what they had been given by then.
        assert metric(server, "clipserve_batches_total") - before < 60
        assert metric(server, "clipserve_views_cancelled_total") > 0


@pytest.mark.parametrize(
    ("models", "status", "words"),
    [
        ('{"nobody": {"max_batch_size": 2}}', 1, "`models` names nobody, not in"),
        ('{"uniformer_tiny_shapes": {"max_batch": 2}}', 2, "uniformer_tiny_shapes.max_batch: no setting is called so"),
        ('{"uniformer_tiny_shapes": {"instances": 0}}', 2, "models.uniformer_tiny_shapes.instances=0"),
        ("not json", 2, "models='not json'"),
    ],
)
def test_wrong_setting_of_a_model_stops_the_start(models: str, status: int, words: str) -> None:
    ended = clipserve("serve", "--port", "0", "--models", models)
    assert ended.returncode == status
    assert words in ended.stderr


def test_model_runs_as_its_own_settings_say(tmp_path: Path) -> None:
    own = {MODEL: {"max_batch_size": 3, "batch_sizes": [1, 2], "instances": 2}}
    with serving(tmp_path, models=json.dumps(own), runtime_threads=1) as server:
        answers = burst(server, 30, priority="low")
        assert {answer.status_code for answer in answers} == {200}
        assert {answer.json()["predictions"][0]["label"] for answer in answers} == {"rotating clockwise"}
        assert 1 < max(answer.json()["batch_size"] for answer in answers) <= 3
        unknown = httpx.post(f"{server.url}/v1/classify", content=CLIP, params={"priority": "high"})
        assert unknown.status_code == 400

"""What the server believes of a decode worker's answer, from workers that answer as an attacker would have them."""

import asyncio
import io
import json
import random
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest

from service.app import create_app
from service.errors import InternalError, ServiceError
from service.manifest import WholePicture
from service.media.answers import check_answer
from service.media.pictures import decode_pictures
from service.media.pool import DecodePool
from service.media.types import MAX_PACKET_BYTES, AnyRequest, DecodeRequest, DecodeResult, PictureRequest, PictureResult
from service.media.worker_process import Decoded
from service.settings import Settings
from tests.media import LIMITS, decode, decode_request
from tests.segmenter import write_repository
from tests.server import running
from tests.service.test_decoding import ENCODINGS
from tests.service.test_pool import memory_file

Answer = dict[str, Any]
Forge = Callable[[Answer, AnyRequest], Decoded[Any]]

WHOLE_PICTURE = WholePicture(
    short_side=64, max_long_side=256, align="pad", window=64, mean=(0, 0, 0), std=(1, 1, 1), channels="rgb"
)
VIEWS = decode_request(clips=2, crops=3, num_frames=2)
PICTURES = PictureRequest(
    preprocessing=WHOLE_PICTURE, limits=LIMITS, fps=10, max_pictures=8, max_total_pixels=100_000, originals=True
)

MEDIA = {
    "kind": "video",
    "format": "mp4",
    "codec": "h264",
    "width": 128,
    "height": 96,
    "frames": 40,
    "fps": 30.0,
    "duration_seconds": 1.333,
    "rotation": 0,
}
VIEWS_ANSWER: Answer = {
    "media": MEDIA,
    "views": [
        {"clip": clip, "crop": crop, "frames": [3, 39]} for clip in range(2) for crop in ("left", "center", "right")
    ],
    "times": [[0.1, 1.3]] * 6,
    "shape": [6, 2, 96, 96, 3],
    "frames_decoded": 40,
}
# 128x96 with its short side at 64 is 85x64, filled up to 96x64.
PICTURES_ANSWER: Answer = {
    "media": MEDIA,
    "frames": [0, 30],
    "times": [0.0, 1.0],
    "content": [64, 85],
    "shape": [2, 64, 96, 3],
    "original_shape": [2, 96, 128, 3],
    "frames_decoded": 31,
}


class ForgingPool(DecodePool):
    worker_module = "tests.service.forging_worker"


@pytest.fixture(scope="module")
def forge(programs_of_tests: None) -> Iterator[Forge]:
    """Have a worker answer a request with what is given; returns what the server makes of it."""
    with asyncio.Runner() as runner:
        pool = ForgingPool(1, 10, memory_bytes=2 << 30, timeout=30, cpu_seconds=10)
        runner.run(pool.start())

        async def decode_as(answer: Answer, request: AnyRequest) -> Decoded[Any]:
            kind: type[Any] = DecodeResult if isinstance(request, DecodeRequest) else PictureResult
            with memory_file(json.dumps(answer).encode()) as upload:
                return await pool.decode(await pool.acquire(), upload, request, kind)

        yield lambda answer, request: runner.run(decode_as(answer, request))
        runner.run(pool.close())


def changed(answer: Answer, path: str, value: object) -> Answer:
    """Return a copy of the answer with another value at a place such as `media.width` or `times.0.1`."""
    copy = json.loads(json.dumps(answer))
    *parents, last = (int(step) if step.isdecimal() else step for step in path.split("."))
    place = copy
    for step in parents:
        place = place[step]
    place[last] = value
    return copy  # type: ignore[no-any-return]


MEDIA_FORGERIES = [
    ("media.width", 0),
    ("media.width", -128),
    ("media.height", 10**9),
    ("media.frames", 0),
    ("media.frames", 10**9),
    ("media.fps", float("inf")),
    ("media.fps", float("nan")),
    ("media.duration_seconds", float("-inf")),
    ("media.rotation", 1),
    ("media.kind", "image"),
    ("media.format", "mp4" * 1000),
    ("media.codec", "h264" * 1000),
    ("media.codec", "h264\n"),
    ("frames_decoded", -1),
    ("frames_decoded", 10**300),
    ("more", 1),
]
VIEW_FORGERIES = [
    *MEDIA_FORGERIES,
    ("shape", []),
    ("shape", [-6, -2, 96, 96, 3]),
    ("shape", [6, 2, 96, 96, 6]),
    ("shape", [6, 2, 96, 48, 3]),
    ("shape", [3, 2, 96, 96, 3]),
    ("shape", [6, 1, 96, 96, 3]),
    ("views", VIEWS_ANSWER["views"][:5]),
    ("views", VIEWS_ANSWER["views"][::-1]),
    ("views.0.clip", 2),
    ("views.0.crop", "left" * 1000),
    ("views.0.frames", [0]),
    ("views.0.frames", [0, 40]),
    ("views.0.frames", [-1, 0]),
    ("times", [[0.1, 1.3]] * 5),
    ("times.0", [0.1]),
    ("times.0.1", 1e300),
    ("times.0.1", -0.1),
    ("times.0.1", float("nan")),
]
PICTURE_FORGERIES = [
    *MEDIA_FORGERIES,
    ("media.width", 129),
    ("media.height", 9600),
    ("shape", [0, 64, 96, 3]),
    ("shape", [1, 64, 96, 3]),
    ("shape", [3, 64, 96, 3]),
    ("shape", [2, 64, 64, 3]),
    ("shape", [2, 64, 85, 3]),
    ("shape", [2, 64, 96, 4]),
    ("content", [0, 85]),
    ("content", [64, 97]),
    ("content", [-64, -85]),
    ("original_shape", None),
    ("original_shape", [2, 96, 64, 3]),
    ("original_shape", [1, 96, 128, 3]),
    ("frames", [0]),
    ("frames", [0, 40]),
    ("frames", [30, 0]),
    ("frames", [0, 0]),
    ("times", [0.0]),
    ("times", [0.0, 601.0]),
]


def test_answers_that_fit_are_believed(forge: Forge) -> None:
    # All that follows would hold of a server that believes nothing.
    assert forge(VIEWS_ANSWER, VIEWS).arrays[0].shape == (6, 2, 96, 96, 3)
    pictures, originals = forge(PICTURES_ANSWER, PICTURES).arrays
    assert (pictures.shape, originals.shape) == ((2, 64, 96, 3), (2, 96, 128, 3))


@pytest.mark.parametrize(("path", "value"), VIEW_FORGERIES)
def test_views_that_do_not_fit_are_refused(forge: Forge, path: str, value: object) -> None:
    with pytest.raises(InternalError, match="a decode worker sent"):
        forge(changed(VIEWS_ANSWER, path, value), VIEWS)


@pytest.mark.parametrize(("path", "value"), PICTURE_FORGERIES)
def test_pictures_that_do_not_fit_are_refused(forge: Forge, path: str, value: object) -> None:
    with pytest.raises(InternalError, match="a decode worker sent"):
        forge(changed(PICTURES_ANSWER, path, value), PICTURES)


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"max_pictures": 1}, "2 pictures"),
        # As the network sees them the pictures are 2 x 64 x 96 pixels, as uploaded 2 x 96 x 128.
        ({"max_total_pixels": 20_000, "originals": False}, "24576 pixels"),
        ({"originals": False}, "shape"),
    ],
)
def test_pictures_beyond_the_request_are_refused(forge: Forge, changes: dict[str, object], says: str) -> None:
    answer = PICTURES_ANSWER if changes == {"originals": False} else changed(PICTURES_ANSWER, "original_shape", None)
    with pytest.raises(InternalError, match=says):
        forge(answer, PICTURES.model_copy(update=changes))


def test_answer_to_another_request_is_refused(forge: Forge) -> None:
    for answer, request in ((VIEWS_ANSWER, PICTURES), (PICTURES_ANSWER, VIEWS)):
        with pytest.raises(InternalError, match="a decode worker sent"):
            forge(answer, request)


def test_damaged_uploads_get_answers_that_fit() -> None:
    """What an honest worker says must never look forged, whatever it was given."""
    numbers = random.Random(0)
    pictures = PICTURES.model_copy(update={"max_pictures": 100, "max_total_pixels": 10_000_000})
    answered = 0
    for content in ENCODINGS.values():
        damaged = bytearray(content)
        for _ in range(5):
            damaged[numbers.randrange(64, len(damaged))] = numbers.randrange(256)
        for upload in (content, bytes(damaged)):
            with suppress(ServiceError):
                check_answer(decode(upload, VIEWS)[0], VIEWS)
                answered += 1
                result = decode_pictures(io.BytesIO(upload), pictures, np.empty, np.empty)  # type: ignore[arg-type]
                check_answer(result, pictures)
    assert answered >= len(ENCODINGS)


@pytest.mark.parametrize(
    ("size", "says"), [(MAX_PACKET_BYTES, "codec"), (10 * MAX_PACKET_BYTES, "more than 1[0-9]{5} bytes")]
)
def test_answer_is_read_to_its_end_and_no_further_than_an_honest_one(forge: Forge, size: int, says: str) -> None:
    room = size - len(json.dumps(changed(VIEWS_ANSWER, "media.codec", "")))
    with pytest.raises(InternalError, match=says):
        forge(changed(VIEWS_ANSWER, "media.codec", "h" * room), VIEWS)
    # Nothing of it is taken for the answer to the next request.
    assert forge(VIEWS_ANSWER, VIEWS).arrays


@pytest.mark.usefixtures("programs_of_tests")
def test_server_draws_no_mask_larger_than_a_picture_may_be(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(DecodePool, "worker_module", ForgingPool.worker_module)
    answer = PICTURES_ANSWER | {
        "media": MEDIA | {"kind": "image", "format": "bmp", "codec": "bmp", "width": 256, "height": 128, "frames": 1},
        "frames": [0],
        "times": [0.0],
        "content": [128, 256],
        "shape": [1, 128, 256, 3],
        "original_shape": None,
    }
    # Of the same shape for the network, at 80 times the pixels that a picture may have.
    huge = changed(changed(answer, "media.width", 90_000), "media.height", 45_000)
    settings = Settings(repository=write_repository(tmp_path), decode_workers=1)
    with running(create_app(settings), settings) as url:

        def segment(forged: Answer) -> httpx.Response:
            return httpx.post(f"{url}/v1/segment", content=b"BM" + json.dumps(forged).encode(), timeout=60)

        assert segment(answer).status_code == 200
        refused = segment(huge)
        assert (refused.status_code, refused.json()["code"]) == (500, "internal_error")
        assert segment(answer).status_code == 200
        assert 'workers_lost_total{reason="nonsense"} 1.0' in httpx.get(f"{url}/metrics").text

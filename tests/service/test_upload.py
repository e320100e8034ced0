"""Uploads on their way in: what they leave to others, that nothing is left of them, and what is said of mistakes."""

import asyncio
from pathlib import Path

import httpx
import pytest
from fastapi import Request

from service.api.memory_files import UploadMemory
from service.api.upload import receive_upload
from tests.server import ROOT, RunningServer, begun_upload, serving

CLIP = (ROOT / "demo/media/sample.mp4").read_bytes()
# The boundary is `a`: each of these lines may be one until its last letter.
SLOW = b"\r\n--aX" * 40_000


def form_request(*chunks: bytes) -> Request:
    """Return a request whose body comes in those chunks."""
    coming = [
        *({"type": "http.request", "body": chunk, "more_body": True} for chunk in chunks),
        {"type": "http.request"},
    ]

    async def receive() -> dict[str, object]:
        return coming.pop(0)

    headers = [(b"content-type", b"multipart/form-data; boundary=a")]
    return Request({"type": "http", "method": "POST", "headers": headers}, receive)


def test_form_that_is_slow_to_parse_lets_others_have_their_turns() -> None:
    async def scenario() -> int:
        turns = 0

        async def others() -> None:
            nonlocal turns
            while True:
                turns += 1
                await asyncio.sleep(0)

        head = b'--a\r\nContent-Disposition: form-data; name="file"\r\n\r\n' + CLIP[:64]
        request, running = form_request(head + SLOW + b"\r\n--a--\r\n"), asyncio.create_task(others())
        async with receive_upload(request, 1 << 30, 60, UploadMemory(1 << 30)):
            running.cancel()
        return turns

    # One chunk as connections bring them: without turns in between, others have had one or two.
    assert asyncio.run(scenario()) >= 5


def memory_files(server: RunningServer) -> int:
    """Return how many uploads the server has open."""
    files = Path(f"/proc/{server.process.pid}/fd").iterdir()
    return sum("memfd:upload" in str(file.readlink()) for file in files if file.is_symlink())


def test_nothing_is_left_of_a_large_upload(tmp_path: Path) -> None:
    with serving(tmp_path, decode_workers=1) as server:
        for _ in range(3):
            # What follows the end of the clip is let be.
            large = CLIP + (30_000_000).to_bytes(4) + b"free" + bytes(30_000_000 - 8)
            assert httpx.post(f"{server.url}/v1/classify", content=large, timeout=60).status_code == 200
        for _ in range(200):
            if not memory_files(server):
                return
        raise AssertionError(f"{memory_files(server)} uploads are still open")


def test_client_that_leaves_in_its_upload_is_counted_as_gone_and_as_nothing_else(tmp_path: Path) -> None:
    with serving(tmp_path, decode_workers=1) as server:
        with begun_upload(server, CLIP, len(CLIP) // 2):
            pass
        for _ in range(200):
            metrics = httpx.get(f"{server.url}/metrics").text
            if refused := [
                line for line in metrics.splitlines() if line.startswith("clipserve_requests_rejected_total{")
            ]:
                break
        assert refused == ['clipserve_requests_rejected_total{reason="client_gone"} 1.0']


FORGOTTEN = "did you forget the @? Use `-F file=@FILE`"
MANGLED = (
    "; if `curl -d` sent it, which leaves out a file's line ends and zeros, and sends its name if the @ is missing: "
    "use `--data-binary @FILE` or `-F file=@FILE`"
)
JSON = "send the file's bytes as they are (`--data-binary @FILE` or `-F file=@FILE`), or JSON to /v2/models/NAME/infer"
# Line ends and zeros of a file are what `curl -d @FILE` leaves out.
WITHOUT_LINE_ENDS = CLIP.translate(None, b"\r\n\0")


def posted(server: RunningServer, kind: str, content: bytes) -> httpx.Response:
    return httpx.post(f"{server.url}/v1/classify", content=content, headers={"Content-Type": kind}, timeout=60)


def posted_form(server: RunningServer, content: bytes, name: str | None = None) -> httpx.Response:
    """Send what `-F file=CONTENT` sends; with a name, what `-F file=@NAME` does."""
    return httpx.post(f"{server.url}/v1/classify", files={"file": (name, content)}, timeout=60)


@pytest.mark.parametrize(
    ("kind", "content", "advice"),
    [
        ("application/x-www-form-urlencoded", WITHOUT_LINE_ENDS, MANGLED),
        ("application/x-www-form-urlencoded", b"sample.mp4", MANGLED),
        ("application/json", b'{"url": "sample.mp4"}', JSON),
        ("Application/JSON; charset=utf-8", b"[]", JSON),
        ("multipart/form-data", b"sample.mp4", FORGOTTEN),
    ],
    ids=["-d @file", "name alone", "JSON", "JSON with a charset", "-F file=name"],
)
def test_common_mistake_is_answered_with_what_to_do(
    server: RunningServer, kind: str, content: bytes, advice: str
) -> None:
    refused = posted_form(server, content) if kind == "multipart/form-data" else posted(server, kind, content)
    assert (refused.status_code, refused.json()["code"]) == (415, "unsupported_media")
    assert refused.json()["detail"].startswith("the upload is none of the accepted formats: mp4, ")
    assert advice in refused.json()["detail"]


def test_other_uploads_that_are_no_media_get_no_advice(server: RunningServer) -> None:
    text = b"no medium" * 1000
    for refused in (
        posted(server, "text/plain", b"no medium"),
        posted(server, "video/mp4", b"no medium"),
        posted_form(server, b"no medium", "notes.txt"),
        posted_form(server, text),
    ):
        assert refused.status_code == 415
        assert refused.json()["detail"].endswith(", bmp")


def test_clip_is_taken_however_it_is_declared(server: RunningServer) -> None:
    for kind in ("application/x-www-form-urlencoded", "application/json"):
        assert posted(server, kind, CLIP).status_code == 200
    assert posted_form(server, CLIP).status_code == 200

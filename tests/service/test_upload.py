"""Uploads on their way in: what they leave to others, and that nothing is left of them."""

import asyncio
from pathlib import Path

import httpx
from fastapi import Request

from service.api.upload import UploadMemory, receive_upload
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

"""Decode workers as real processes: crashes, kills, overruns and what is left of the pool afterwards."""

import asyncio
import itertools
import os
import resource
import signal
import socket
import time
from collections.abc import AsyncIterator, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from typing import Any, get_args
from urllib.parse import urlsplit

import httpx
import numpy as np
import pytest

from service.errors import (
    MediaLimitError,
    QueueFullError,
    UndecodableMediaError,
    UnsupportedMediaError,
    WorkerLostError,
)
from service.manifest import Preprocessing
from service.media.pool import DecodePool
from service.media.types import DecodeResult
from service.media.worker_process import Decoded
from service.metrics import LostBy
from tests.media import LIMITS, decode, decode_request, encode, numbered_frames
from tests.processes import children, cpu_seconds, decode_workers, is_running
from tests.server import serving
from tests.waiting import until

CLIP = encode(numbered_frames(40), options={"preset": "veryfast"})
STRIP = encode(numbered_frames(40, 16, 900), options={"preset": "veryfast"})
# Noise is what takes a decoder longest: more than a second for these.
NOISE = np.random.default_rng(0).integers(0, 256, (300, 480, 640, 3), dtype=np.uint8)
LONG_CLIP = encode(NOISE, options={"preset": "ultrafast", "g": "400", "crf": "18"})
# Segments over the whole video: every frame must be decoded.
WHOLE = decode_request(kind="segments_centre", num_frames=64, rate=None, target_fps=None)


@asynccontextmanager
async def pool(
    workers: int = 1, max_waiting: int = 10, seconds: float = 30.0, lost: list[LostBy] | None = None
) -> AsyncIterator[DecodePool]:
    note = (lambda _: None) if lost is None else lost.append
    running = DecodePool(workers, max_waiting, memory_bytes=2 << 30, timeout=seconds, cpu_seconds=30, on_lost=note)
    await running.start()
    try:
        yield running
    finally:
        await running.close()


@contextmanager
def memory_file(content: bytes) -> Iterator[int]:
    descriptor = os.memfd_create("test")
    try:
        os.write(descriptor, content)
        yield descriptor
    finally:
        os.close(descriptor)


async def decode_in(running: DecodePool, content: bytes, request: object = None) -> Decoded[DecodeResult]:
    with memory_file(content) as upload:
        worker = await running.acquire()
        return await running.decode(worker, upload, request or decode_request(), DecodeResult)  # type: ignore[arg-type]


async def has_begun(worker: int) -> None:
    """Wait, from before a worker is given an upload that takes it long, until it is decoding that."""
    before = cpu_seconds(worker)
    await until(lambda: cpu_seconds(worker) >= before + 0.05)


@pytest.mark.parametrize("interpolation", get_args(Preprocessing.model_fields["interpolation"].annotation))
def test_every_way_of_resizing_works_within_the_sandbox(interpolation: str) -> None:
    # Anything that a library imports late fails there.
    async def scenario() -> None:
        request = decode_request(interpolation=interpolation, resize=80, crop=(72, 72))
        async with pool() as running:
            decoded = await decode_in(running, CLIP, request)
        result, pixels = decode(CLIP, request)
        assert decoded.result == result
        assert np.array_equal(decoded.arrays[0], pixels)

    asyncio.run(scenario())


def test_pixels_cross_the_process_border_unchanged() -> None:
    async def scenario() -> None:
        async with pool() as running:
            decoded = await decode_in(running, CLIP)
        result, pixels = decode(CLIP, decode_request())
        assert decoded.result == result
        assert np.array_equal(decoded.arrays[0], pixels)
        assert not decoded.arrays[0].flags.writeable

    asyncio.run(scenario())


@pytest.mark.parametrize("clips", [100, 300])
def test_any_number_of_views_is_answered(clips: int) -> None:
    async def scenario() -> None:
        # What is said of their frames takes 150 and 460 kB, more than the socket takes in one piece.
        request = decode_request(clips=clips, crops=3, num_frames=64, resize=10, crop=(8, 8))
        async with pool() as running:
            decoded = await decode_in(running, CLIP, request)
        assert decoded.result == decode(CLIP, request)[0]
        assert len(decoded.result.views) == 3 * clips

    asyncio.run(scenario())


def test_bad_media_costs_no_worker() -> None:
    async def scenario() -> None:
        async with pool() as running:
            before = decode_workers()
            with pytest.raises(UnsupportedMediaError, match="accepted formats"):
                await decode_in(running, b"text")
            with pytest.raises(UndecodableMediaError):
                await decode_in(running, CLIP[: len(CLIP) // 2])
            assert (await decode_in(running, CLIP)).result.media.frames == 40
            assert decode_workers() == before

    asyncio.run(scenario())


@pytest.mark.parametrize(
    ("clip", "sizes"),
    [
        # To map views of 7.7 GB, or to resize a frame to 2.8 GB, is more than the 2 GiB of a worker.
        (CLIP, {"clips": 10, "num_frames": 64, "resize": 2000, "crop": (2000, 2000)}),
        (STRIP, {"resize": 4096, "limits": LIMITS.model_copy(update={"max_pixels": 1 << 30})}),
    ],
    ids=["views", "frame"],
)
def test_upload_that_takes_more_memory_than_a_worker_has_is_not_called_damaged(
    clip: bytes, sizes: dict[str, Any]
) -> None:
    async def scenario() -> None:
        async with pool() as running:
            before = decode_workers()
            with pytest.raises(MediaLimitError, match="more memory than a decode worker may use"):
                await decode_in(running, clip, decode_request(**sizes))
            assert (await decode_in(running, CLIP)).result.media.frames == 40
            assert decode_workers() == before

    asyncio.run(scenario())


@pytest.mark.parametrize(
    ("number", "error", "reason"),
    [
        (signal.SIGKILL, WorkerLostError, "stopped"),
        (signal.SIGSEGV, UndecodableMediaError, "crash"),
        (signal.SIGSYS, UndecodableMediaError, "sandbox"),
        (signal.SIGXCPU, MediaLimitError, "processor_time"),
    ],
)
def test_worker_that_dies_fails_its_request_alone_and_is_replaced(
    number: int, error: type[Exception], reason: LostBy
) -> None:
    async def scenario() -> None:
        lost: list[LostBy] = []
        async with pool(lost=lost) as running:
            (victim,) = decode_workers()
            task = asyncio.create_task(decode_in(running, LONG_CLIP, WHOLE))
            await has_begun(victim)
            os.kill(victim, number)
            with pytest.raises(error):
                await task
            assert (await decode_in(running, CLIP)).result.media.frames == 40
            assert decode_workers() != {victim}
        assert lost == [reason]

    asyncio.run(scenario())


def test_worker_that_dies_idle_costs_no_request() -> None:
    async def scenario() -> None:
        lost: list[LostBy] = []
        async with pool(lost=lost) as running:
            (victim,) = decode_workers()
            os.kill(victim, signal.SIGKILL)
            await until(lambda: not is_running(victim))
            assert (await decode_in(running, CLIP)).result.media.frames == 40
        assert lost == ["stopped"]

    asyncio.run(scenario())


@pytest.mark.parametrize("stopped", [True, False], ids=["asked", "before"])
def test_upload_whose_worker_ends_before_it_has_it_is_decoded_by_another(stopped: bool) -> None:
    async def scenario() -> None:
        async with pool() as running:
            worker = await running.acquire()
            pid = worker.process.pid
            os.kill(pid, signal.SIGSTOP if stopped else signal.SIGKILL)
            # It comes when the worker is wanted for something else.
            waiting = asyncio.create_task(decode_in(running, CLIP))
            with memory_file(CLIP) as upload:
                task = asyncio.create_task(running.decode(worker, upload, decode_request(), DecodeResult))
                await asyncio.sleep(0.1)
                worker.process.kill()
                assert (await task).result.media.frames == 40
                assert not waiting.done()
            assert (await waiting).result.media.frames == 40
            assert pid not in decode_workers()

    asyncio.run(scenario())


def test_upload_is_given_to_two_workers_at_most() -> None:
    async def scenario() -> None:
        async with pool(workers=3) as running:
            workers = [await running.acquire() for _ in range(3)]
            for worker in workers:
                os.kill(worker.process.pid, signal.SIGKILL)
                worker.process.wait()
            running.worker_module = "service.media.no_such_program"
            with memory_file(CLIP) as upload:
                task = asyncio.create_task(running.decode(workers[0], upload, decode_request(), DecodeResult))
                await until(lambda: running.waiting)
                running.release(workers[1])
                with pytest.raises(WorkerLostError, match="send the request again"):
                    await task

    asyncio.run(scenario())


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGSEGV])
def test_upload_whose_worker_dies_of_it_costs_no_other_worker(number: int) -> None:
    async def scenario() -> None:
        async with pool(workers=2) as running:
            worker = await running.acquire()
            (other,) = decode_workers() - {worker.process.pid}
            with memory_file(LONG_CLIP) as upload:
                task = asyncio.create_task(running.decode(worker, upload, WHOLE, DecodeResult))
                await has_begun(worker.process.pid)
                os.kill(worker.process.pid, number)
                with pytest.raises((WorkerLostError, UndecodableMediaError)):
                    await task
            assert (await decode_in(running, CLIP)).result.media.frames == 40
            assert other in decode_workers()

    asyncio.run(scenario())


def test_overrun_is_stopped_and_named() -> None:
    async def scenario() -> None:
        lost: list[LostBy] = []
        async with pool(seconds=0.05, lost=lost) as running:
            with pytest.raises(MediaLimitError, match=r"longer than 0.05 s"):
                await decode_in(running, LONG_CLIP, WHOLE)
            running.timeout = 30.0
            assert (await decode_in(running, CLIP)).result.media.frames == 40
        assert lost == ["timeout"]

    asyncio.run(scenario())


def test_waiting_line_is_bounded_and_served_in_order() -> None:
    async def scenario() -> None:
        async with pool(max_waiting=2) as running:
            worker = await running.acquire()
            waiting = [asyncio.create_task(running.acquire()) for _ in range(2)]
            await asyncio.sleep(0)
            with pytest.raises(QueueFullError, match="2 uploads are waiting"):
                await running.acquire()
            waiting[0].cancel()
            await asyncio.gather(waiting[0], return_exceptions=True)
            running.release(worker)
            assert await asyncio.wait_for(waiting[1], 5) is worker
            running.release(worker)

    asyncio.run(scenario())


def test_low_priority_waits_behind_normal_requests() -> None:
    async def scenario() -> None:
        async with pool() as running:
            worker = await running.acquire()
            low = asyncio.create_task(running.acquire("low"))
            await asyncio.sleep(0)
            normal = asyncio.create_task(running.acquire())
            await asyncio.sleep(0)
            running.release(worker)
            assert await asyncio.wait_for(normal, 5) is worker
            assert not low.done()
            running.release(worker)
            assert await asyncio.wait_for(low, 5) is worker
            running.release(worker)

    asyncio.run(scenario())


def test_expected_wait_follows_the_line() -> None:
    async def scenario() -> None:
        async with pool() as running:
            assert running.expected_wait("normal") == 0
            took = time.monotonic()
            await decode_in(running, LONG_CLIP, WHOLE)
            took = time.monotonic() - took
            assert running.expected_wait("normal") == 0
            worker = await running.acquire()
            waiting = [asyncio.create_task(running.acquire()) for _ in range(3)]
            await asyncio.sleep(0)
            # Three times what decoding took, which is most of what the call took.
            assert took < running.expected_wait("normal") <= 3 * took
            for task in waiting:
                task.cancel()
            await asyncio.gather(*waiting, return_exceptions=True)
            assert running.expected_wait("normal") == 0
            running.release(worker)

    asyncio.run(scenario())


@pytest.mark.parametrize(("content", "survives"), [(CLIP, True), (LONG_CLIP, False)], ids=["short", "long"])
def test_caller_that_leaves_stops_its_work(content: bytes, survives: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    if survives:
        # However slow the machine is at the moment.
        monkeypatch.setattr("service.media.pool.ABANDONED_SECONDS", 60)

    async def scenario() -> None:
        lost: list[LostBy] = []
        async with pool(lost=lost) as running:
            before = decode_workers()
            task = asyncio.create_task(decode_in(running, content, WHOLE))
            await asyncio.sleep(0.01)
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)
            assert (await decode_in(running, CLIP)).result.media.frames == 40
            # A short decode is left to finish; a long one is stopped, and a fresh worker goes on.
            assert (decode_workers() == before) is survives
        assert lost == ([] if survives else ["abandoned"])

    asyncio.run(scenario())


def test_server_stays_ready_while_a_worker_is_replaced_that_a_client_has_left(tmp_path: Path) -> None:
    with serving(tmp_path, decode_workers=1) as server:
        (lost,) = server.worker_pids()
        idle = cpu_seconds(lost)
        head = f"POST /v1/classify?clips=10 HTTP/1.1\r\nHost: x\r\nContent-Length: {len(LONG_CLIP)}\r\n\r\n"
        address = urlsplit(server.url)
        with socket.create_connection((address.hostname, address.port), timeout=30) as connection:
            connection.sendall(head.encode() + LONG_CLIP)
            server.wait_for(lambda: cpu_seconds(lost) >= idle + 0.05)
        statuses = set()

        def replaced() -> bool:
            statuses.add(httpx.get(f"{server.url}/readyz").status_code)
            return set(server.worker_pids()) not in ({lost}, set())

        server.wait_for(replaced)
        assert httpx.post(f"{server.url}/v1/classify", content=CLIP, timeout=60).status_code == 200
    assert statuses == {200}
    assert "ERROR" not in server.log.read_text()


def limit_free_descriptors(pid: int, count: int) -> None:
    """Have a process find so many more file descriptors; the kernel takes the lowest number that is free."""
    opened = {int(file.name) for file in Path(f"/proc/{pid}/fd").iterdir()}
    free = (number for number in itertools.count() if number not in opened)
    first_refused = next(itertools.islice(free, count, None))
    _, hard = resource.prlimit(pid, resource.RLIMIT_NOFILE)
    resource.prlimit(pid, resource.RLIMIT_NOFILE, (first_refused, hard))


# The upload takes the first, its pixels the second on their way to the worker, and a third where they are mapped.
@pytest.mark.parametrize("free", [0, 1, 2, 3])
def test_server_without_file_descriptors_sheds_uploads_and_keeps_its_workers(tmp_path: Path, free: int) -> None:
    with serving(tmp_path, decode_workers=1) as server, httpx.Client(base_url=server.url, timeout=60) as client:
        # The connection is kept, and whatever else opens once is open.
        assert client.post("/v1/classify", content=CLIP).status_code == 200
        workers, pid = server.worker_pids(), server.process.pid
        limits = resource.prlimit(pid, resource.RLIMIT_NOFILE)
        limit_free_descriptors(pid, free)
        for _ in range(3):
            answer = client.post("/v1/classify", content=CLIP)
            if free == 3:
                assert answer.status_code == 200
            else:
                assert (answer.status_code, answer.json()["code"]) == (429, "queue_full")
                assert "Too many open files" in answer.json()["detail"]
                assert answer.headers["retry-after"] == "1"
        resource.prlimit(pid, resource.RLIMIT_NOFILE, limits)
        assert client.post("/v1/classify", content=CLIP).status_code == 200
        assert server.worker_pids() == workers


def test_pool_is_not_alive_as_long_as_workers_do_not_start() -> None:
    async def scenario() -> None:
        async with pool() as running:
            running.worker_module = "service.media.no_such_program"
            os.kill(decode_workers().pop(), signal.SIGKILL)
            waiting = asyncio.create_task(decode_in(running, CLIP))
            await until(lambda: not running.alive)
            running.worker_module = DecodePool.worker_module
            await until(lambda: running.alive)
            assert (await waiting).result.media.frames == 40
            assert (await decode_in(running, CLIP)).result.media.frames == 40

    asyncio.run(scenario())


def test_hundreds_of_uploads_leave_a_worker_no_larger() -> None:
    def address_space(pid: int) -> int:
        return int(Path(f"/proc/{pid}/statm").read_text().split()[0])

    async def scenario() -> None:
        async with pool() as running:
            (pid,) = decode_workers()
            sizes = []
            for _ in range(2):
                for _ in range(150):
                    await decode_in(running, CLIP)
                sizes.append(address_space(pid))
            assert decode_workers() == {pid}
        # Address space, in pages of 4 KiB: a picture left behind each time would be 150 times its size.
        assert sizes[1] - sizes[0] < 4096

    asyncio.run(scenario())


def test_closing_stops_workers_that_are_busy() -> None:
    async def scenario() -> set[int]:
        async with pool() as running:
            (worker,) = pids = decode_workers()
            task = asyncio.create_task(decode_in(running, LONG_CLIP, WHOLE))
            await has_begun(worker)
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)
        return pids

    for pid in asyncio.run(scenario()):
        with pytest.raises(ProcessLookupError):
            os.kill(pid, 0)


def test_closing_leaves_no_worker_that_was_to_be_killed() -> None:
    async def scenario() -> set[int]:
        loop = asyncio.get_running_loop()
        loop.set_default_executor(ThreadPoolExecutor(1))
        async with pool(seconds=0.05) as running:
            # The thread that would kill the worker is busy until the pool is closed.
            busy = loop.run_in_executor(None, time.sleep, 2)
            with pytest.raises(MediaLimitError):
                await decode_in(running, LONG_CLIP, WHOLE)
        left = children()
        await busy
        return left

    before = children()
    assert asyncio.run(scenario()) == before


@pytest.mark.parametrize("seconds", [0.0, 0.002, 0.2])
def test_closing_leaves_no_worker_that_is_on_its_way(seconds: float) -> None:
    async def scenario() -> set[int]:
        async with pool() as running:
            os.kill(decode_workers().pop(), signal.SIGKILL)
            waiting = asyncio.create_task(decode_in(running, CLIP))
            # The replacement of its worker takes longer than that.
            await asyncio.sleep(seconds)
        waiting.cancel()
        await asyncio.gather(waiting, return_exceptions=True)
        return children()

    before = children()
    assert asyncio.run(scenario()) == before


def test_signal_to_the_whole_group_leaves_workers_to_finish() -> None:
    async def scenario() -> None:
        async with pool() as running:
            (worker,) = decode_workers()
            task = asyncio.create_task(decode_in(running, LONG_CLIP, WHOLE))
            await has_begun(worker)
            for number in (signal.SIGTERM, signal.SIGINT):
                os.kill(worker, number)
            assert (await task).result.media.frames == len(NOISE)

    asyncio.run(scenario())

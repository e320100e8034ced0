"""The server's side of decoding: a fixed number of worker processes, each given one upload at a time.

Hostile media can crash FFmpeg, stall it or make it eat memory. Here that costs the one request whose upload did it: a
worker that dies or overruns its time is replaced, and the next request gets a fresh one. A worker that has been taken
over finds itself in a sandbox (service/media/sandbox.py): it can spoil the answers it gives, and no more.
"""

from __future__ import annotations

import asyncio
import fcntl
import logging
import mmap
import os
import resource
import signal
import socket
import subprocess
import sys
import time
from bisect import insort
from collections.abc import Coroutine
from dataclasses import dataclass
from math import ceil, prod
from time import perf_counter
from typing import Any, Generic, Literal, TypeVar

import numpy as np
from numpy.typing import NDArray
from pydantic import ValidationError

from service.errors import (
    BadParameterError,
    InternalError,
    MediaLimitError,
    QueueFullError,
    ServiceError,
    UndecodableMediaError,
    UnsupportedMediaError,
    WorkerLostError,
)
from service.media.types import (
    ANY_ANSWER,
    MAX_MESSAGE_BYTES,
    AnyRequest,
    DecodeFailure,
    DecodeResult,
    PictureResult,
    WorkerReady,
)
from service.priority import Priority, place_in_line
from service.rate import ServiceTime, retry_after

logger = logging.getLogger(__name__)

T = TypeVar("T")
ResultT = TypeVar("ResultT", DecodeResult, PictureResult)

START_SECONDS = 60.0
ABANDONED_SECONDS = 0.2
_ERRORS: dict[str, type[ServiceError]] = {
    error.code: error for error in (BadParameterError, MediaLimitError, UndecodableMediaError, UnsupportedMediaError)
}
# Signals that a process raises against itself by what it does, as opposed to being stopped by somebody.
_CRASH_SIGNALS = {signal.SIGSEGV, signal.SIGABRT, signal.SIGBUS, signal.SIGFPE, signal.SIGILL, signal.SIGTRAP}
# What Python and the dynamic linker go by. The rest of the server's environment may hold secrets.
_ENVIRONMENT = ("HOME", "PATH", "LANG", "LC_", "LD_", "PYTHON")


@dataclass(frozen=True)
class Decoded(Generic[ResultT]):
    """What a worker made of an upload.

    Attributes:
        result: What the upload is and what was taken of it.
        arrays: The pixels, uint8, in the order and of the shapes of `result.shapes`; read-only maps of the worker's
            memory files.
    """

    result: ResultT
    arrays: tuple[NDArray[np.uint8], ...]


class _Worker:
    """One worker process and the socket to it.

    Attributes:
        process: The process.
        connection: The socket.
        unfiltered: Why the process's system calls are not filtered; None if they are.
    """

    def __init__(self, process: subprocess.Popen[bytes], connection: socket.socket) -> None:
        self.process = process
        self.connection = connection
        self.unfiltered: str | None = None

    @classmethod
    async def start(cls, module: str, memory_bytes: int) -> _Worker:
        """Start a worker, the program `module`, and wait until it takes requests."""
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        with theirs:
            command = [sys.executable, "-m", module, str(theirs.fileno()), str(memory_bytes)]
            process = await asyncio.to_thread(
                subprocess.Popen, command, pass_fds=[theirs.fileno()], env=_environment(), stdin=subprocess.DEVNULL
            )
        ours.setblocking(False)
        worker = cls(process, ours)
        try:
            async with asyncio.timeout(START_SECONDS):
                ready = WorkerReady.model_validate_json(await worker.receive())
        except (TimeoutError, ValidationError) as error:
            worker.kill()
            raise InternalError(f"a decode worker did not start (exit status {process.returncode})") from error
        worker.unfiltered = ready.unfiltered
        return worker

    @property
    def alive(self) -> bool:
        """Whether the process runs."""
        return self.process.poll() is None

    async def receive(self) -> bytes:
        """Wait for the next packet; an empty one means that the worker is gone."""
        try:
            return await asyncio.get_running_loop().sock_recv(self.connection, MAX_MESSAGE_BYTES)
        except ConnectionError:
            return b""

    async def decode(
        self, upload: int, request: AnyRequest, result_type: type[ResultT], cpu_seconds: int
    ) -> Decoded[ResultT]:
        """Have the upload in file descriptor `upload` decoded, in `cpu_seconds` of processor time at most.

        Raises:
            ServiceError: The worker's verdict, or that the worker was lost.
        """
        arrays = [_memory_file(size) for size in request.array_bytes]
        try:
            message = await self._ask(upload, request, arrays, cpu_seconds)
            if not message:
                raise await asyncio.to_thread(self._cause_of_death, cpu_seconds)
            return _read_reply(message, arrays, result_type)
        finally:
            for descriptor in arrays:
                os.close(descriptor)

    async def _ask(self, upload: int, request: AnyRequest, arrays: list[int], cpu_seconds: int) -> bytes:
        # The number of a process that has ended may be another's by now.
        if not self.alive:
            return b""
        self._limit_processor_time(cpu_seconds)
        try:
            socket.send_fds(self.connection, [request.model_dump_json().encode()], [upload, *arrays])
        except ConnectionError:
            return b""
        return await self.receive()

    def _limit_processor_time(self, seconds: int) -> None:
        """Let the process be ended after so many seconds, or up to one more: the limit counts whole ones.

        Set from here, because a worker that was taken over would raise its own.
        """
        pid = self.process.pid
        # The clock that the limit goes by, since the process began: CPUCLOCK_PROF of <linux/posix-timers.h>.
        used = time.clock_gettime(~pid << 3)
        _, hard = resource.prlimit(pid, resource.RLIMIT_CPU)
        resource.prlimit(pid, resource.RLIMIT_CPU, (ceil(used) + seconds, hard))

    def _cause_of_death(self, cpu_seconds: int) -> ServiceError:
        try:
            status = self.process.wait(1.0)
        except subprocess.TimeoutExpired:
            raise InternalError("a decode worker closed its socket and went on running") from None
        if -status == signal.SIGXCPU:
            return MediaLimitError(
                f"decoding the upload takes more than {cpu_seconds} s of processor time: send a shorter or smaller one"
            )
        if -status == signal.SIGSYS:
            logger.error("decode worker %d tried to leave its sandbox and was ended", self.process.pid)
            return UndecodableMediaError("the upload made the decoder do what no decoder does: the file is hostile")
        if -status in _CRASH_SIGNALS:
            name = signal.Signals(-status).name
            logger.error("decode worker %d crashed with %s", self.process.pid, name)
            return UndecodableMediaError("decoding the upload crashed the decoder: the file is damaged or hostile")
        logger.error("decode worker %d ended with status %d while it held a request", self.process.pid, status)
        if status >= 0:
            return InternalError(f"a decode worker ended by itself with status {status}")
        return WorkerLostError(
            "the process that was decoding this upload was stopped from outside; send the request again"
        )

    def kill(self) -> None:
        """End the process at once and collect it."""
        self.process.kill()
        self.process.wait()
        self.connection.close()


def _environment() -> dict[str, str]:
    kept = {name: value for name, value in os.environ.items() if name.startswith(_ENVIRONMENT)}
    # One thread for each numerical library: the parallelism is the number of workers.
    return kept | {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}


def _memory_file(size: int) -> int:
    """Return the descriptor of a memory file that keeps its size; it takes up memory only where it is written to."""
    descriptor = os.memfd_create("pixels", os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
    os.ftruncate(descriptor, size)
    # A file that could shrink would let the worker crash the server by a bus error, one that could grow eat memory.
    fcntl.fcntl(descriptor, fcntl.F_ADD_SEALS, fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_GROW | fcntl.F_SEAL_SEAL)
    return descriptor


def _read_reply(message: bytes, arrays: list[int], result_type: type[ResultT]) -> Decoded[ResultT]:
    """Check a worker's answer before it is believed: the process that wrote it has handled hostile bytes."""
    try:
        answer = ANY_ANSWER.validate_json(message)
    except ValidationError as error:
        raise InternalError(f"a decode worker sent an answer that makes no sense: {error}") from error
    if isinstance(answer, DecodeFailure):
        if answer.trace is not None:
            logger.error("decoding an upload failed in an unforeseen way: %r", answer.trace)
        raise _ERRORS.get(answer.code, InternalError)(answer.detail)
    if not isinstance(answer, result_type) or len(arrays) != len(answer.shapes):
        raise InternalError(
            f"a decode worker sent {answer!r:.200} for {len(arrays)} arrays of a {result_type.__name__}"
        )
    return Decoded(answer, tuple(map(_mapped, arrays, answer.shapes)))


def _mapped(descriptor: int, shape: tuple[int, ...]) -> NDArray[np.uint8]:
    """Return the first bytes of a memory file as an array, mapped for reading."""
    size, room = prod(shape), os.fstat(descriptor).st_size
    if min(shape, default=0) <= 0 or size > room:
        raise InternalError(f"a decode worker sent shape {shape} for {room} bytes")
    return np.frombuffer(mmap.mmap(descriptor, size, prot=mmap.PROT_READ), np.uint8).reshape(shape)


class DecodePool:
    """A fixed number of decode workers behind a bounded waiting line.

    Args:
        workers: Processes; as many uploads are decoded at the same time.
        max_waiting: Requests that may wait for a free worker.
        memory_bytes: Address space of a worker.
        timeout: Seconds that one upload may take; a worker that takes longer is killed and replaced.
        cpu_seconds: Processor time that one upload may take, whole seconds; likewise.
        sandbox: Whether workers whose system calls cannot be filtered do ("auto"), or stop the start ("required").

    Attributes:
        worker_module: The program that a worker runs.
    """

    worker_module = "service.media.worker"

    def __init__(
        self,
        workers: int,
        max_waiting: int,
        memory_bytes: int,
        timeout: float,
        cpu_seconds: int,
        sandbox: Literal["auto", "required"] = "auto",
    ) -> None:
        self.size = workers
        self.max_waiting = max_waiting
        self.memory_bytes = memory_bytes
        self.timeout = timeout
        self.cpu_seconds = cpu_seconds
        self.sandbox = sandbox
        self._idle: list[_Worker] = []
        self._all: set[_Worker] = set()
        self._waiting: list[tuple[float, asyncio.Future[_Worker]]] = []
        self._seconds_an_upload = ServiceTime()
        self._tasks: set[asyncio.Task[Any]] = set()
        self._closing = False

    @property
    def waiting(self) -> int:
        """Requests that wait for a worker."""
        return sum(not future.done() for _, future in self._waiting)

    @property
    def expected_wait(self) -> float:
        """Seconds until all requests that wait now will have a worker, judged by the last uploads."""
        return self._seconds_for(self.waiting)

    def _seconds_for(self, uploads: int) -> float:
        return self._seconds_an_upload.of(uploads) / self.size

    @property
    def alive(self) -> bool:
        """Whether at least one worker is there to decode."""
        return any(worker.alive for worker in self._all)

    @property
    def process_ids(self) -> list[int]:
        """Process numbers of the workers."""
        return [worker.process.pid for worker in self._all]

    @property
    def unfiltered(self) -> str | None:
        """Why there are workers whose system calls are not filtered; None if there are none."""
        return next((worker.unfiltered for worker in self._all if worker.unfiltered), None)

    async def start(self) -> None:
        """Start all workers; returns when every one takes requests.

        Raises:
            InternalError: One does not start, or cannot be confined as required.
        """
        await asyncio.gather(*(self._add_worker() for _ in range(self.size)))
        if self.unfiltered:
            logger.warning("decode sandbox: resource limits; system calls are not filtered: %s", self.unfiltered)
        else:
            logger.info("decode sandbox: resource limits, system calls filtered (no files, no network, no processes)")

    async def close(self) -> None:
        """End all workers."""
        self._closing = True
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        for worker in self._all:
            worker.kill()
        self._all.clear()
        self._idle.clear()

    async def acquire(self, priority: Priority = "normal") -> _Worker:
        """Wait for a free worker, in order of arrival and priority; give it back with `release`.

        Raises:
            QueueFullError: `max_waiting` requests are waiting already.
        """
        while self._idle:
            worker = self._idle.pop()
            if worker.alive:
                return worker
            self._replace(worker)
        if self.waiting >= self.max_waiting:
            raise QueueFullError(
                f"{self.waiting} uploads are waiting to be decoded, as many as may; try again later",
                retry_after=retry_after(self._seconds_for(1)),
            )
        future: asyncio.Future[_Worker] = asyncio.get_running_loop().create_future()
        insort(self._waiting, (place_in_line(priority), future), key=lambda waiting: waiting[0])
        try:
            return await future
        except asyncio.CancelledError:
            if future.done() and not future.cancelled():
                self.release(future.result())
            raise

    def release(self, worker: _Worker) -> None:
        """Hand a worker on to the next request that waits, or note that it is free."""
        while self._waiting:
            _, future = self._waiting.pop(0)
            if not future.done():
                future.set_result(worker)
                return
        self._idle.append(worker)

    async def decode(
        self, worker: _Worker, upload: int, request: AnyRequest, result_type: type[ResultT]
    ) -> Decoded[ResultT]:
        """Decode on an acquired worker, which is then released, or replaced if it was lost or ran out of time.

        A caller that is cancelled leaves at once. Its worker gets a moment to finish, which is cheaper than starting
        another one, and is then stopped.

        Raises:
            ServiceError: As `service.errors` says for bad media; MediaLimitError when the time is over.
        """
        task = self._spawn(self._decode(worker, upload, request, result_type))
        try:
            return await asyncio.shield(task)
        except asyncio.CancelledError:
            self._spawn(self._abandon(task, worker))
            raise

    async def _abandon(self, task: asyncio.Task[Decoded[ResultT]], worker: _Worker) -> None:
        await asyncio.wait({task}, timeout=ABANDONED_SECONDS)
        if not task.done():
            worker.process.kill()
        await asyncio.gather(task, return_exceptions=True)

    async def _decode(
        self, worker: _Worker, upload: int, request: AnyRequest, result_type: type[ResultT]
    ) -> Decoded[ResultT]:
        healthy = False
        began = perf_counter()
        try:
            async with asyncio.timeout(self.timeout):
                decoded = await worker.decode(upload, request, result_type, self.cpu_seconds)
            healthy = True
            return decoded
        except TimeoutError as error:
            raise MediaLimitError(
                f"decoding the upload takes longer than {self.timeout:g} s: send a shorter or smaller one"
            ) from error
        except InternalError:
            # The worker is lost, or talks nonsense.
            raise
        except ServiceError:
            # A verdict about the media; only a dead worker cannot go on.
            healthy = worker.alive
            raise
        finally:
            self._seconds_an_upload.observe(1, perf_counter() - began)
            if healthy:
                self.release(worker)
            else:
                self._replace(worker)

    def _replace(self, worker: _Worker) -> None:
        self._all.discard(worker)
        if self._closing:
            worker.kill()
            return
        self._spawn(self._kill_and_add(worker))

    def _spawn(self, work: Coroutine[Any, Any, T]) -> asyncio.Task[T]:
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task

    async def _kill_and_add(self, worker: _Worker) -> None:
        await asyncio.to_thread(worker.kill)
        while True:
            try:
                return await self._add_worker()
            except (InternalError, OSError):
                logger.exception("could not start a decode worker; trying again")
                await asyncio.sleep(1.0)

    async def _add_worker(self) -> None:
        worker = await _Worker.start(self.worker_module, self.memory_bytes)
        if worker.unfiltered and self.sandbox == "required":
            worker.kill()
            raise InternalError(
                f"decode workers cannot be confined: {worker.unfiltered}; sandbox=auto would serve without the filter"
            )
        self._all.add(worker)
        self.release(worker)

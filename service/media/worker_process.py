"""One decode worker seen from the server: its process, and what goes over the socket to it.

The process has handled hostile bytes, so nothing that it sends is believed before it is checked. It finds itself in a
sandbox (service/media/sandbox.py): a worker that was taken over can spoil the answers it gives, and no more.
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
from contextlib import ExitStack
from dataclasses import dataclass
from math import ceil, prod
from typing import Generic, TypeVar

import numpy as np
from numpy.typing import NDArray
from pydantic import ValidationError

from service.errors import (
    BadParameterError,
    InternalError,
    MediaLimitError,
    ServiceError,
    UndecodableMediaError,
    UnsupportedMediaError,
    WorkerLostError,
)
from service.kernel_limits import shedding
from service.media.answers import check_answer
from service.media.types import (
    ANY_ANSWER,
    MAX_PACKET_BYTES,
    TAKEN_POSITION,
    AnyRequest,
    DecodeFailure,
    DecodeResult,
    PictureResult,
    WorkerReady,
)
from service.metrics import LostBy
from service.signals import stop_signals_held

logger = logging.getLogger(__name__)

ResultT = TypeVar("ResultT", DecodeResult, PictureResult)

START_SECONDS = 60.0
_ERRORS: dict[str, type[ServiceError]] = {
    error.code: error for error in (BadParameterError, MediaLimitError, UndecodableMediaError, UnsupportedMediaError)
}
# Signals that a process raises against itself by what it does, as opposed to being stopped by somebody.
_CRASH_SIGNALS = {signal.SIGSEGV, signal.SIGABRT, signal.SIGBUS, signal.SIGFPE, signal.SIGILL, signal.SIGTRAP}
_LOST_BY: dict[int, LostBy] = {signal.SIGXCPU: "processor_time", signal.SIGSYS: "sandbox"}
# What Python and the dynamic linker go by. The rest of the server's environment may hold secrets, also under names that
# begin like these (LD_SDK_KEY, PYTHON_KEYRING_PASSWORD).
_ENVIRONMENT = (
    *("HOME", "PATH", "LANG", "LC_ALL", "LC_CTYPE", "LD_LIBRARY_PATH", "LD_PRELOAD"),
    *("PYTHONHOME", "PYTHONPATH", "PYTHONPLATLIBDIR", "PYTHONSAFEPATH", "PYTHONUSERBASE", "PYTHONNOUSERSITE"),
    *("PYTHONDONTWRITEBYTECODE", "PYTHONPYCACHEPREFIX", "PYTHONUTF8", "PYTHONCOERCECLOCALE", "PYTHONHASHSEED"),
    *("PYTHONDEVMODE", "PYTHONMALLOC", "PYTHONOPTIMIZE", "PYTHONWARNINGS"),
)


class UntouchedError(WorkerLostError):
    """The worker ended before it had the request: another one is asked. It never leaves the pool."""


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


class WorkerProcess:
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
    async def start(cls, module: str, memory_bytes: int) -> WorkerProcess:
        """Start a worker, the program `module`, and wait until it takes requests.

        Raises:
            InternalError: It does not start.
            OSError: There are no file descriptors, memory or processes left to start it with.
        """
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        with ExitStack() as on_failure:
            on_failure.callback(ours.close)
            with theirs:
                process = await _start_process(module, theirs.fileno(), memory_bytes)
            ours.setblocking(False)
            worker = cls(process, ours)
            on_failure.callback(worker.kill)
            worker.unfiltered = (await worker._ready()).unfiltered
            on_failure.pop_all()
        return worker

    async def _ready(self) -> WorkerReady:
        try:
            async with asyncio.timeout(START_SECONDS):
                return WorkerReady.model_validate_json(await self.receive())
        except (TimeoutError, ValidationError) as error:
            self.kill()
            raise InternalError(f"a decode worker did not start (exit status {self.process.returncode})") from error

    @property
    def alive(self) -> bool:
        """Whether the process runs."""
        return self.process.poll() is None

    async def receive(self) -> bytes:
        """Wait for the next packet; an empty one means that the worker is gone."""
        try:
            return await asyncio.get_running_loop().sock_recv(self.connection, MAX_PACKET_BYTES)
        except ConnectionError:
            return b""

    async def decode(
        self, upload: int, request: AnyRequest, result_type: type[ResultT], cpu_seconds: int
    ) -> Decoded[ResultT]:
        """Have the upload in file descriptor `upload` decoded, in `cpu_seconds` of processor time at most.

        Raises:
            UntouchedError: The worker was lost, and has not looked at the upload.
            ServiceError: The worker's verdict, or that the worker was lost.
            QueueFullError: The server has no file descriptors or memory left; the worker is as it was.
        """
        with ExitStack() as files:
            with shedding():
                arrays = [_memory_file(size, files) for size in request.array_bytes]
            self._ask(upload, request, arrays, cpu_seconds)
            message = await self._receive_answer(request.answer_bytes)
            if not message and os.lseek(arrays[0], 0, os.SEEK_CUR) != TAKEN_POSITION:
                raise _untouched()
            if not message:
                raise await asyncio.to_thread(self._cause_of_death, cpu_seconds)
            return _read_reply(message, arrays, request, result_type)

    def _ask(self, upload: int, request: AnyRequest, arrays: list[int], cpu_seconds: int) -> None:
        # The number of a process that has ended may be another's by now.
        if not self.alive:
            raise _untouched()
        self._limit_processor_time(cpu_seconds)
        try:
            with shedding():
                socket.send_fds(self.connection, [request.model_dump_json().encode()], [upload, *arrays])
        except ConnectionError:
            raise _untouched() from None

    async def _receive_answer(self, most: int) -> bytes:
        """Wait for all packets of an answer of `most` bytes at most; an empty one means that the worker is gone."""
        answer = packet = await self.receive()
        while len(packet) == MAX_PACKET_BYTES and len(answer) < most:
            packet = await self.receive()
            answer += packet
        if len(packet) == MAX_PACKET_BYTES:
            raise InternalError(f"a decode worker sent an answer of more than {most} bytes")
        return answer if packet else b""

    def _limit_processor_time(self, seconds: int) -> None:
        """Let the process be ended after so many seconds, or up to one more: the limit counts whole ones.

        Set from here, because a worker that was taken over would raise its own.
        """
        pid = self.process.pid
        # The clock that the limit goes by, since the process began: CPUCLOCK_PROF of <linux/posix-timers.h>.
        used = time.clock_gettime(~pid << 3)
        _, hard = resource.prlimit(pid, resource.RLIMIT_CPU)
        resource.prlimit(pid, resource.RLIMIT_CPU, (ceil(used) + seconds, hard))

    def lost_by(self) -> LostBy:
        """Return what ended the process, for which it gets a second: one that still runs is lost by what it says."""
        try:
            status = self.process.wait(1.0)
        except subprocess.TimeoutExpired:
            return "nonsense"
        if status >= 0:
            return "exit"
        return "crash" if -status in _CRASH_SIGNALS else _LOST_BY.get(-status, "stopped")

    def _cause_of_death(self, cpu_seconds: int) -> ServiceError:
        reason, status = self.lost_by(), self.process.returncode
        if reason == "nonsense":
            return InternalError("a decode worker closed its socket and went on running")
        if reason == "processor_time":
            return MediaLimitError(
                f"decoding the upload takes more than {cpu_seconds} s of processor time: send a shorter or smaller one"
            )
        if reason == "sandbox":
            logger.error("decode worker %d tried to leave its sandbox and was ended", self.process.pid)
            return UndecodableMediaError("the upload made the decoder do what no decoder does: the file is hostile")
        if reason == "crash":
            name = signal.Signals(-status).name
            logger.error("decode worker %d crashed with %s", self.process.pid, name)
            return UndecodableMediaError("decoding the upload crashed the decoder: the file is damaged or hostile")
        logger.error("decode worker %d ended with status %d while it held a request", self.process.pid, status)
        if reason == "exit":
            return InternalError(f"a decode worker ended by itself with status {status}")
        return WorkerLostError(
            "the process that was decoding this upload was stopped from outside; send the request again"
        )

    def kill(self) -> None:
        """End the process at once and collect it."""
        self.process.kill()
        self.process.wait()
        self.connection.close()


async def _start_process(module: str, descriptor: int, memory_bytes: int) -> subprocess.Popen[bytes]:
    """Start the program `module` with the socket `descriptor`; whoever is cancelled meanwhile leaves none behind."""
    starting = asyncio.create_task(asyncio.to_thread(_create_process, module, descriptor, memory_bytes))
    try:
        return await asyncio.shield(starting)
    except asyncio.CancelledError:
        process = await starting
        process.kill()
        process.wait()
        raise


def _create_process(module: str, descriptor: int, memory_bytes: int) -> subprocess.Popen[bytes]:
    # Without -P Python would look for all modules in the present folder first.
    command = [sys.executable, "-P", "-m", module, str(descriptor), str(memory_bytes)]
    # A terminal or a supervisor signals the server and its workers alike; the server decides when these end.
    with stop_signals_held():
        return subprocess.Popen(  # noqa: S603
            command, pass_fds=[descriptor], env=_environment(), stdin=subprocess.DEVNULL
        )


def _environment() -> dict[str, str]:
    kept = {name: value for name, value in os.environ.items() if name in _ENVIRONMENT}
    # One thread for each numerical library: the parallelism is the number of workers.
    return kept | {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}


def _untouched() -> UntouchedError:
    return UntouchedError("the process that was to decode this upload ended before it began; send the request again")


def _memory_file(size: int, files: ExitStack) -> int:
    """Return the descriptor of a memory file that keeps its size, and that `files` closes.

    It takes up memory only where it is written to.
    """
    descriptor = os.memfd_create("pixels", os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
    files.callback(os.close, descriptor)
    os.ftruncate(descriptor, size)
    # A file that could shrink would let the worker crash the server by a bus error, one that could grow eat memory.
    fcntl.fcntl(descriptor, fcntl.F_ADD_SEALS, fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_GROW | fcntl.F_SEAL_SEAL)
    return descriptor


def _read_reply(message: bytes, arrays: list[int], request: AnyRequest, result_type: type[ResultT]) -> Decoded[ResultT]:
    """Check a worker's answer before it is believed: the process that wrote it has handled hostile bytes."""
    try:
        answer = ANY_ANSWER.validate_json(message)
    except ValidationError as error:
        raise InternalError(f"a decode worker sent an answer that makes no sense: {error}") from error
    if isinstance(answer, DecodeFailure):
        if answer.trace is not None:
            logger.error("decoding an upload failed in an unforeseen way: %r", answer.trace)
        raise _ERRORS.get(answer.code, InternalError)(answer.detail)
    if not isinstance(answer, result_type):
        raise InternalError(f"a decode worker sent {answer!r:.200} in place of a {result_type.__name__}")
    check_answer(answer, request)
    with shedding():
        return Decoded(answer, tuple(map(_mapped, arrays, answer.shapes)))


def _mapped(descriptor: int, shape: tuple[int, ...]) -> NDArray[np.uint8]:
    """Return the first bytes of a memory file as an array, mapped for reading."""
    size, room = prod(shape), os.fstat(descriptor).st_size
    if min(shape, default=0) <= 0 or size > room:
        raise InternalError(f"a decode worker sent shape {shape} for {room} bytes")
    return np.frombuffer(mmap.mmap(descriptor, size, prot=mmap.PROT_READ), np.uint8).reshape(shape)

"""What a decode worker that has been taken over can still do: its uploads are programs here, the sandbox is real."""

import asyncio
import errno
import io
import os
import re
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path

import httpx
import numpy as np
import pytest
from PIL import ExifTags, Image

from service.errors import MediaLimitError, ServiceError, UndecodableMediaError
from service.media.pool import DecodePool
from tests.media import decode, decode_request, encode
from tests.processes import decode_workers
from tests.server import ROOT, serving
from tests.service.test_decoding import ENCODINGS, FRAMES
from tests.service.test_pool import CLIP, decode_in, pool

Run = Callable[[str], ServiceError]


class CompromisedPool(DecodePool):
    worker_module = "tests.service.compromised_worker"


@pytest.fixture(scope="module")
def run(programs_of_tests: None) -> Iterator[Run]:
    """Have a worker run a program as its upload; returns what becomes of the request."""
    with asyncio.Runner() as runner:
        running = CompromisedPool(1, 10, memory_bytes=2 << 30, timeout=30, cpu_seconds=1, sandbox="required")
        runner.run(running.start())

        def run_program(program: str) -> ServiceError:
            with pytest.raises(ServiceError) as caught:
                runner.run(decode_in(running, program.encode()))
            return caught.value

        yield run_program
        runner.run(running.close())


def test_program_of_the_upload_runs(run: Run) -> None:
    # All that follows would hold of a worker that runs nothing.
    assert run("result = sum(range(10))").detail == "done: 45"


REFUSED = {
    "read a file": ("open('/etc/passwd')", errno.ENOSYS),
    "write a file": ("open('{folder}/new', 'w')", errno.ENOSYS),
    "list a folder": ("import os; os.listdir('/')", errno.ENOSYS),
    "look for a file": ("import os; os.stat('/etc/passwd')", errno.ENOSYS),
    "remove a file": ("import os; os.unlink('{folder}/kept')", errno.ENOSYS),
    "rename a file": ("import os; os.rename('{folder}/kept', '{folder}/new')", errno.ENOSYS),
    "link to a file": ("import os; os.symlink('/etc/passwd', '{folder}/new')", errno.ENOSYS),
    "make a memory file": ("import os; os.memfd_create('mine')", errno.ENOSYS),
    "make the upload longer": ("import os; os.ftruncate(file.fileno(), 1 << 30)", errno.ENOSYS),
    "write to the log": ("import os; os.write(2, b'forged line')", errno.ENOSYS),
    "make a pair of sockets": ("import socket; socket.socketpair()", errno.ENOSYS),
    "fork": ("import os; os.fork()", errno.ENOSYS),
    "raise a limit": ("import resource as r; r.setrlimit(r.RLIMIT_CPU, (1000, 1000))", errno.ENOSYS),
    "run what it wrote": ("import mmap; mmap.mmap(-1, 4096, prot=mmap.PROT_WRITE | mmap.PROT_EXEC)", errno.EPERM),
    "have signals sent": ("import fcntl; fcntl.fcntl(file, 8, {server})", errno.EPERM),  # F_SETOWN
}


@pytest.mark.parametrize(("program", "number"), REFUSED.values(), ids=REFUSED)
def test_what_libraries_may_try_is_refused(run: Run, tmp_path: Path, program: str, number: int) -> None:
    (tmp_path / "kept").touch()
    error = run(program.format(folder=tmp_path, server=os.getpid()))
    assert f"[Errno {number}]" in error.detail
    assert os.listdir(tmp_path) == ["kept"]


def test_threads_are_refused(run: Run) -> None:
    assert "can't start new thread" in run("import threading; threading.Thread(target=print).start()").detail


FATAL = {
    "run a program": "import os; os.execv('/bin/touch', ['touch', '{folder}/new'])",
    "signal the server": "import os; os.kill({server}, 9)",
    "open a socket": "import socket; socket.socket().connect(('127.0.0.1', {port}))",
    "connect a socket that is open": (
        "import ctypes; ctypes.CDLL(None).connect(3, ctypes.create_string_buffer(110), 110)"
    ),
    "trace the server": "import ctypes; ctypes.CDLL(None).ptrace(16, {server}, 0, 0)",  # PTRACE_ATTACH
}


@pytest.mark.parametrize("program", FATAL.values(), ids=FATAL)
def test_what_only_an_attacker_tries_ends_the_worker(
    run: Run, tmp_path: Path, caplog: pytest.LogCaptureFixture, program: str
) -> None:
    with closing(socket.create_server(("127.0.0.1", 0))) as listener:
        error = run(program.format(folder=tmp_path, server=os.getpid(), port=listener.getsockname()[1]))
        listener.setblocking(False)
        with pytest.raises(BlockingIOError):
            listener.accept()
    assert isinstance(error, UndecodableMediaError)
    assert "hostile" in error.detail
    assert "tried to leave its sandbox" in caplog.text
    assert not os.listdir(tmp_path)
    # The next request finds a fresh worker.
    assert run("result = 1").detail == "done: 1"


def test_processor_time_is_limited_for_each_upload(run: Run) -> None:
    # Together more than twice the limit.
    burn = "import time; end = time.process_time() + {}\nwhile time.process_time() < end: pass\nresult = 'burnt'"
    for _ in range(4):
        assert run(burn.format(0.6)).detail == "done: burnt"
    error = run(burn.format(100))
    assert isinstance(error, MediaLimitError)
    assert "more than 1 s of processor time" in error.detail


def test_memory_is_limited(run: Run) -> None:
    error = run("bytearray(4 << 30)")
    assert isinstance(error, MediaLimitError)
    assert "memory" in error.detail


def test_broken_worker_ends_as_a_crash(run: Run) -> None:
    error = run("import os; os.abort()")
    assert isinstance(error, UndecodableMediaError)
    assert "crashed" in error.detail


def test_unforeseen_error_is_told_to_the_log_on_one_line(run: Run, caplog: pytest.LogCaptureFixture) -> None:
    error = run("raise ValueError('one\\nline')")
    assert error.detail == "the upload cannot be decoded: it is damaged"
    (line,) = [record.getMessage() for record in caplog.records if "unforeseen" in record.getMessage()]
    assert "ValueError: one\\nline" in line
    assert "\n" not in line


def with_exif(container: str) -> bytes:
    exif, file = Image.Exif(), io.BytesIO()
    exif[ExifTags.Base.Orientation] = 6
    Image.fromarray(FRAMES[0]).save(file, container, exif=exif)
    return file.getvalue()


# By codec and container; what libraries load when they first meet a kind of file must be there before.
MEDIA = ENCODINGS | {
    "av1": encode(FRAMES[:9], "mp4", "libsvtav1", options={"preset": "12", "svtav1-params": "lp=1"}),
    "vp8": encode(FRAMES[:9], "webm", "libvpx", options={"deadline": "realtime"}),
    "ffv1": encode(FRAMES[:9], "matroska", "ffv1"),
    "prores": encode(FRAMES[:9], "mov", "prores", pix_fmt="yuv422p10le"),
    "flv": encode(FRAMES[:9], "flv", "flv"),
    "apng": encode(FRAMES[:9], "apng", "apng", pix_fmt="rgb24"),
    **{f"{name} with EXIF": with_exif(name) for name in ("JPEG", "PNG", "WEBP")},
    "bmp": encode(FRAMES[:1], "image2pipe", "bmp", pix_fmt="bgr24"),
}


def test_every_kind_of_medium_decodes_in_the_sandbox_as_outside() -> None:
    async def scenario() -> None:
        async with pool() as running:
            before = decode_workers()
            for name, content in MEDIA.items():
                for request in (decode_request(), decode_request(interpolation="bicubic", clips=2, crops=3)):
                    decoded = await decode_in(running, content, request)
                    result, pixels = decode(content, request)
                    assert decoded.result == result, name
                    assert np.array_equal(decoded.arrays[0], pixels), name
            assert running.unfiltered is None
            assert decode_workers() == before

    asyncio.run(scenario())


def test_workers_of_a_server_hold_none_of_its_secrets(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    secrets = ["AWS_SECRET_ACCESS_KEY", "CLIPSERVE_ADMIN_KEY", "HOMEBREW_GITHUB_API_TOKEN", "LANGSMITH_API_KEY"]
    secrets += ["LC_TOKEN", "LD_SDK_KEY", "PATH_SECRET", "PYTHON_KEYRING_PASSWORD", "PYTHONPATH_TOKEN"]
    for name in secrets:
        monkeypatch.setenv(name, "k1tt3ns")
    monkeypatch.setenv("PYTHONHASHSEED", "7")
    monkeypatch.setenv("LC_ALL", "C.UTF-8")
    with serving(tmp_path, decode_workers=1) as server:
        (pid,) = server.worker_pids()
        passed = Path(f"/proc/{pid}/environ").read_bytes().decode().split("\0")
    assert not [line for line in passed if "k1tt3ns" in line]
    assert {"PYTHONHASHSEED=7", "LC_ALL=C.UTF-8", f"PATH={os.environ['PATH']}"} < set(passed)


def test_workers_of_a_server_are_confined(tmp_path: Path) -> None:
    with serving(tmp_path, decode_workers=2, sandbox="required", decode_cpu_seconds=7) as server:
        assert httpx.post(f"{server.url}/v1/classify", content=CLIP).status_code == 200
        for pid in server.worker_pids():
            status = Path(f"/proc/{pid}/status").read_text()
            assert re.findall(r"^(?:NoNewPrivs|Seccomp):\s*(\d)$", status, re.MULTILINE) == ["1", "2"]
            limits = Path(f"/proc/{pid}/limits").read_text()
            expected = {"core file size": 0, "file size": 0, "address space": 2 << 30, "processes": 0, "open files": 16}
            for name, value in expected.items():
                assert re.search(rf"^Max {name}\s+{value}\s+{value}\s", limits, re.MULTILINE), limits
            opened = sorted(os.readlink(file) for file in Path(f"/proc/{pid}/fd").iterdir())
            assert opened[:3] == ["/dev/null"] * 3
            assert [name.split(":")[0] for name in opened[3:]] == ["socket"]
        assert "clipserve_decode_sandboxed 1.0" in httpx.get(f"{server.url}/metrics").text
        assert "decode sandbox: resource limits, system calls filtered" in server.log.read_text()


def test_workers_of_a_server_leave_it_the_cores_that_it_wants(tmp_path: Path) -> None:
    with serving(tmp_path, decode_workers=1) as server:
        (worker,) = server.worker_pids()
        own, of_worker = (os.getpriority(os.PRIO_PROCESS, pid) for pid in (server.process.pid, worker))
        # A larger number, of up to 19, stands back (nice(2)).
        assert of_worker == min(19, own + 5)


# As a container engine does whose profile does not let processes filter system calls: seccomp(2) fails with EPERM.
WITHOUT_SECCOMP = """
import ctypes, platform, struct, sys
class Program(ctypes.Structure):
    _fields_ = (("length", ctypes.c_ushort), ("code", ctypes.c_char_p))
seccomp = {"x86_64": 317, "aarch64": 277}[platform.machine()]
code = struct.pack("=HBBIHBBIHBBIHBBI", 32, 0, 0, 0, 21, 0, 1, seccomp, 6, 0, 0, 0x50001, 6, 0, 0, 0x7FFF0000)
libc = ctypes.CDLL(None)
assert libc.prctl(38, 1, 0, 0, 0) == libc.prctl(22, 2, ctypes.byref(Program(4, code))) == 0
from service.cli import main
sys.exit(main(sys.argv[1:]))
"""


def test_kernel_that_does_not_filter_is_named_and_may_stop_the_start(tmp_path: Path) -> None:
    def clipserve(*arguments: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, "-c", WITHOUT_SECCOMP, *arguments], capture_output=True, text=True, cwd=ROOT, timeout=120
        )

    refused = clipserve("serve", "--port", "0", "--sandbox", "required")
    assert refused.returncode == 1
    assert re.search(r"cannot start: decode workers cannot be confined: .*Operation not permitted", refused.stderr)
    advised = clipserve("doctor", "--sandbox", "required")
    assert advised.returncode == 1
    assert re.search(r"sandbox: .*Operation not permitted", advised.stdout)
    told = clipserve("doctor")
    assert told.returncode == 0
    assert re.search(r"sandbox .*not filtered: .*Operation not permitted", told.stdout)

"""TensorRT as far as it goes without a GPU: engines are built and kept, all else is refused with a reason."""

import os
import resource
import signal
import stat
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import tensorrt_rtx

from service.errors import RuntimeLoadError
from service.manifest import read_artefact
from service.repository.loading import gpu_options
from service.runtimes.buckets import powers_of_two, run_in_buckets
from service.runtimes.gpu import Gpu
from service.runtimes.kinds import KINDS
from service.runtimes.tensorrt.building import BuildRequest, Profiles
from service.runtimes.tensorrt.engines import build_elsewhere, engine_facts, engine_name, find_engine
from service.runtimes.tensorrt.store import EngineStore
from service.settings import Settings
from tests.processes import children, is_running
from tests.server import ROOT
from tests.waiting import wait_for

MODEL = ROOT / "model_repository/uniformer_tiny_shapes/1/model.onnx"
VIEW = (8, 96, 96, 3)
REQUEST = BuildRequest(MODEL, "fp32", Profiles((1, 2), VIEW, VIEW, VIEW), is_for_here=False)
SOME_GPU = Gpu("NVIDIA Something", "8.9", "580.1")
VERSION = tensorrt_rtx.__version__
# In the name of its library.
TENSORRT = "libtensorrt_rtx"


@pytest.fixture(scope="module")
def plan() -> bytes:
    return build_elsewhere("tensorrt_rtx", REQUEST)


@pytest.fixture
def store(tmp_path: Path) -> EngineStore:
    return EngineStore(tmp_path / "cache/engines")


def facts(**changes: object) -> dict[str, object]:
    return engine_facts("tensorrt_rtx", VERSION, REQUEST, SOME_GPU) | changes


def stored_file(tmp_path: Path) -> Path:
    (file,) = (tmp_path / "cache/engines").glob("*.engine")
    return file


def test_engine_is_kept_as_it_was_built(store: EngineStore, plan: bytes, tmp_path: Path) -> None:
    name = engine_name(facts())
    assert store.load(name, facts()) is None
    store.save(name, facts(), plan)
    assert EngineStore(tmp_path / "cache/engines").load(name, facts()) == plan


def test_wait_for_another_process_at_an_engine_is_told(
    store: EngineStore, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    def take_turn() -> None:
        with store.turn("engine"):
            pass

    caplog.set_level("INFO")
    lock = tmp_path / "cache/engines/engine.lock"
    told = [f"waiting for another process that loads or builds this engine ({lock} is locked)"]
    with ThreadPoolExecutor(1) as pool:
        # Each opened file has a lock of its own, in one process as in two.
        with store.turn("engine"):
            waiting = pool.submit(take_turn)
            wait_for(lambda: caplog.messages == told)
            assert not waiting.done()
        waiting.result(10)


def test_folder_is_the_users_alone(store: EngineStore, plan: bytes, tmp_path: Path) -> None:
    store.save("name", facts(), plan)
    folder = tmp_path / "cache/engines"
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    for file in folder.iterdir():
        assert stat.S_IMODE(file.stat().st_mode) == 0o600, file


@pytest.mark.parametrize("place", [0, 33, 40, 400, -1])
def test_engine_that_was_changed_is_not_used(
    store: EngineStore, plan: bytes, tmp_path: Path, place: int, caplog: pytest.LogCaptureFixture
) -> None:
    store.save("name", facts(), plan)
    file = stored_file(tmp_path)
    content = bytearray(file.read_bytes())
    content[place] ^= 1
    file.write_bytes(content)
    assert store.load("name", facts()) is None
    assert "was changed" in caplog.text


@pytest.mark.parametrize("content", [b"", b"short", bytes(200)])
def test_file_that_is_no_engine_is_not_used(store: EngineStore, tmp_path: Path, content: bytes) -> None:
    (tmp_path / "cache/engines/name.engine").write_bytes(content)
    assert store.load("name", facts()) is None


def test_engine_of_another_folder_is_not_used(store: EngineStore, plan: bytes, tmp_path: Path) -> None:
    """Each folder has a key of its own."""
    other = EngineStore(tmp_path / "other/engines")
    other.save("name", facts(), plan)
    content = (tmp_path / "other/engines/name.engine").read_bytes()
    (tmp_path / "cache/engines/name.engine").write_bytes(content)
    assert other.load("name", facts()) == plan
    assert store.load("name", facts()) is None


@pytest.mark.parametrize("fact", engine_facts("tensorrt_rtx", VERSION, REQUEST, SOME_GPU))
def test_engine_for_something_else_is_not_used(
    store: EngineStore, plan: bytes, fact: str, caplog: pytest.LogCaptureFixture
) -> None:
    store.save("name", facts(), plan)
    assert store.load("name", facts(**{fact: "another"})) is None
    assert f"{fact} was" in caplog.text


@pytest.mark.parametrize("mode", [0o755, 0o770, 0o701])
def test_folder_that_others_may_use_is_refused(tmp_path: Path, mode: int) -> None:
    EngineStore(tmp_path / "engines")
    (tmp_path / "engines").chmod(mode)
    with pytest.raises(RuntimeLoadError, match=rf"may be used by, others .* mode {mode:o}.*CLIPSERVE_CACHE"):
        EngineStore(tmp_path / "engines")


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give files away")
@pytest.mark.parametrize("name", [".", "key"])
def test_folder_or_key_of_somebody_else_is_refused(tmp_path: Path, name: str) -> None:
    EngineStore(tmp_path / "engines")
    os.chown(tmp_path / "engines" / name, 12345, 12345)
    with pytest.raises(RuntimeLoadError, match="owner 12345"):
        EngineStore(tmp_path / "engines")


def test_link_in_place_of_the_folder_is_refused(tmp_path: Path) -> None:
    EngineStore(tmp_path / "elsewhere")
    (tmp_path / "engines").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(RuntimeLoadError, match="not what it should be"):
        EngineStore(tmp_path / "engines")


def test_key_that_others_may_read_or_that_is_none_is_refused(tmp_path: Path) -> None:
    EngineStore(tmp_path / "engines")
    key = tmp_path / "engines/key"
    key.chmod(0o644)
    with pytest.raises(RuntimeLoadError, match="mode 644"):
        EngineStore(tmp_path / "engines")
    key.chmod(0o600)
    key.write_bytes(b"")
    with pytest.raises(RuntimeLoadError, match="is not a key"):
        EngineStore(tmp_path / "engines")


def test_folder_that_cannot_be_made_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(RuntimeLoadError, match=r"cannot be used .*set CLIPSERVE_CACHE"):
        EngineStore(tmp_path / "file/engines")


def test_engine_is_built_once_and_again_when_anything_differs(
    store: EngineStore, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO")

    def builds(request: BuildRequest = REQUEST, version: str = VERSION, gpu: Gpu = SOME_GPU) -> int:
        """Ask for an engine and return how many were built for that."""
        caplog.clear()
        plan = find_engine("tensorrt_rtx", version, request, gpu, store, bytes)
        assert any(file.read_bytes().endswith(plan) for file in folder.glob("*.engine"))
        return caplog.text.count("building a TensorRT engine")

    folder = tmp_path / "cache/engines"
    newer = replace(SOME_GPU, driver="581.0")
    assert [builds(), builds(), builds(gpu=newer), builds(gpu=newer), builds()] == [1, 0, 1, 0, 1]
    assert [builds(version="9"), builds(version="9"), builds()] == [1, 0, 1]
    # What does not fit any more is not kept; what another server may still use is.
    assert len(list(folder.glob("*.engine"))) == 1
    fewer, other = replace(REQUEST, profiles=Profiles((1,), VIEW, VIEW, VIEW)), replace(SOME_GPU, name="another")
    assert [builds(fewer), builds(gpu=other), builds(), builds(fewer), builds(gpu=other)] == [1, 1, 0, 0, 0]
    assert {file.suffix for file in folder.iterdir()} == {".engine", ".lock", ""}


def test_kept_engine_that_does_not_load_is_built_again(
    store: EngineStore, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    name, kept = engine_name(facts()), b"an engine"
    store.save(name, facts(), kept)
    tried: list[bytes] = []

    def load(plan: bytes) -> str:
        tried.append(plan)
        if plan == kept:
            raise RuntimeLoadError("the engine does not load: out of memory")
        return "loaded"

    assert find_engine("tensorrt_rtx", VERSION, REQUEST, SOME_GPU, store, load) == "loaded"
    assert f"the TensorRT engine {name} is built again: the engine does not load: out of memory" in caplog.text
    first, built = tried
    assert (first, store.load(name, facts())) == (kept, built)


def test_engine_that_does_not_load_after_it_was_built_again_fails_the_start_and_is_not_kept(store: EngineStore) -> None:
    def load(plan: bytes) -> str:
        raise RuntimeLoadError(f"no {len(plan)}")

    name = engine_name(facts())
    store.save(name, facts(), b"four")
    with pytest.raises(RuntimeLoadError, match=r"no \d{5,}"):
        find_engine("tensorrt_rtx", VERSION, REQUEST, SOME_GPU, store, load)
    assert store.load(name, facts()) == b"four"


ASKING = """
import sys
from pathlib import Path
from tests.service.test_tensorrt import REQUEST, SOME_GPU, VERSION, EngineStore, find_engine
find_engine("tensorrt_rtx", VERSION, REQUEST, SOME_GPU, EngineStore(Path(sys.argv[1])), bytes)
"""


def test_build_ends_with_the_server_that_asked_for_it_and_is_in_nobodys_way(store: EngineStore, tmp_path: Path) -> None:
    folder = tmp_path / "cache/engines"
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    with subprocess.Popen([sys.executable, "-c", ASKING, folder], env=environment) as asking:
        builder = wait_for(lambda: next(iter(children(asking.pid)), None))
        # Whatever ends first, nobody else has the turn before the builder is gone.
        wait_for(lambda: str(folder / f"{engine_name(facts())}.lock") in opened_by(builder))
        wait_for(lambda: TENSORRT in Path(f"/proc/{builder}/maps").read_text())
        # It must not end by itself.
        os.kill(builder, signal.SIGSTOP)
        asking.kill()
    try:
        wait_for(lambda: not is_running(builder))
    finally:
        with suppress(ProcessLookupError):
            os.kill(builder, signal.SIGKILL)
    assert {file.suffix for file in folder.iterdir()} == {".lock", ""}
    assert len(find_engine("tensorrt_rtx", VERSION, REQUEST, SOME_GPU, store, bytes)) > 1000


# Python runs a module of this name in every process at its begin.
LATE_BUILDER = """
import atexit, pathlib, sys, time
folder = pathlib.Path({!r})
if "service.runtimes.tensorrt.build" in sys.orig_argv:
    atexit.register(lambda: (folder / "imported").write_text(" ".join(sys.modules)))
    while not (folder / "go_on").exists():
        time.sleep(0.05)
"""


def test_build_does_not_begin_for_a_server_that_has_ended_meanwhile(tmp_path: Path) -> None:
    (tmp_path / "sitecustomize.py").write_text(LATE_BUILDER.format(str(tmp_path)))
    environment = {**os.environ, "PYTHONPATH": f"{tmp_path}:{ROOT}"}
    with subprocess.Popen([sys.executable, "-c", ASKING, tmp_path / "engines"], env=environment) as asking:
        builder = wait_for(lambda: next(iter(children(asking.pid)), None))
        asking.kill()
    (tmp_path / "go_on").touch()
    wait_for(lambda: not is_running(builder))
    imported = (tmp_path / "imported").read_text().split()
    assert "service.parent" in imported
    assert "tensorrt_rtx" not in imported


def opened_by(pid: int) -> set[str]:
    """Return the files that a process has open."""
    files = set()
    for file in Path(f"/proc/{pid}/fd").iterdir():
        # It may just have been closed.
        with suppress(FileNotFoundError):
            files.add(os.readlink(file))
    return files


def test_engine_that_cannot_be_kept_leaves_nothing(
    store: EngineStore, plan: bytes, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (len(plan) // 2, limits[1]))
    try:
        store.save("name", facts(), plan)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert "cannot be kept" in caplog.text
    assert [file.name for file in (tmp_path / "cache/engines").iterdir()] == ["key"]


def test_file_that_tensorrt_does_not_take_is_named_with_its_words(store: EngineStore, tmp_path: Path) -> None:
    file = tmp_path / "model.onnx"
    file.write_bytes(b"nothing")
    with pytest.raises(RuntimeLoadError, match=rf"made no engine \(status 1\): {file}: cannot be parsed"):
        find_engine("tensorrt_rtx", VERSION, replace(REQUEST, model_file=file), SOME_GPU, store, bytes)
    assert not list((tmp_path / "cache/engines").glob("*.engine"))


def test_views_that_the_network_does_not_take_are_refused() -> None:
    view = (8, 100, 100, 3)
    with pytest.raises(RuntimeLoadError, match="cannot be built"):
        build_elsewhere("tensorrt_rtx", replace(REQUEST, profiles=Profiles((1,), view, view, view)))


def without_gpu(*arguments: str) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "CUDA_VISIBLE_DEVICES": ""}
    command = [sys.executable, "-m", "service.cli", *arguments]
    return subprocess.run(command, capture_output=True, text=True, cwd=ROOT, env=environment, check=False, timeout=120)


def test_start_without_a_gpu_fails_and_says_so() -> None:
    run = without_gpu("serve", "--port", "0", "--runtime", "tensorrt_rtx")
    assert run.returncode == 1
    (reason,) = [line for line in run.stderr.splitlines() if "cannot start: " in line]
    assert "runtime tensorrt_rtx: " in reason
    assert "NVIDIA" in reason
    assert "Traceback" not in run.stderr


@pytest.mark.parametrize(("runtime", "extra"), [("cuda", "gpu"), ("tensorrt", "tensorrt")])
def test_runtime_that_is_not_installed_is_refused_with_the_cure(runtime: str, extra: str, tmp_path: Path) -> None:
    if KINDS[runtime].version:
        pytest.skip(f"{runtime} is installed")
    artefact = read_artefact(MODEL.parent)
    with pytest.raises(RuntimeLoadError, match=rf"{runtime} is not installed: pip install 'clipserve\[{extra}\]'"):
        KINDS[runtime].open(MODEL, "fp32", 1, gpu_options(artefact.manifest, Settings(cache=tmp_path)))


def test_doctor_tells_what_is_missing_for_a_gpu() -> None:
    run = without_gpu("doctor")
    assert run.returncode == 0, run.stdout
    lines = {line.split()[0]: line for line in run.stdout.splitlines() if line.startswith("  ")}
    assert f"{VERSION} is installed, but " in lines["tensorrt_rtx"]
    assert "NVIDIA" in lines["tensorrt_rtx"]
    assert "nothing: no part of this version has been run" in lines["tried"]
    run = without_gpu("doctor", "--runtime", "tensorrt_rtx")
    assert run.returncode == 1
    assert "to mend:\n  tensorrt_rtx: " in run.stdout


def test_gpu_gets_a_few_batch_sizes_and_the_shapes_of_the_model(tmp_path: Path) -> None:
    settings = Settings(runtime="tensorrt_rtx", cache=tmp_path, gpu_memory_bytes=5)
    options = gpu_options(read_artefact(MODEL.parent).manifest, settings)
    assert options.batch_sizes == (1, 2, 4, 8)
    assert options.views == (VIEW, VIEW, VIEW)
    assert (options.memory_bytes, options.cache) == (5, tmp_path)
    own = gpu_options(read_artefact(MODEL.parent).manifest, settings.model_copy(update={"batch_sizes": (3, 99)}))
    assert own.batch_sizes == (3, 8)
    (folder,) = (ROOT / "model_repository/uniformer_tiny_shapes_fpn").iterdir()
    options = gpu_options(read_artefact(folder).manifest, settings)
    smallest, usual, largest = options.views
    assert smallest == (64, 64, 3)
    assert usual == (128, 128, 3)
    assert largest[0] % 32 == 0
    assert largest[0] >= usual[0]
    # Its rule in the manifest: a short side of 128, a long one of 512.
    assert options.roomiest == (128, 512, 3)


@pytest.mark.parametrize(("largest", "sizes"), [(1, (1,)), (2, (1, 2)), (5, (1, 2, 4, 5)), (8, (1, 2, 4, 8))])
def test_batch_sizes_are_powers_of_two(largest: int, sizes: tuple[int, ...]) -> None:
    assert powers_of_two(largest) == sizes


def test_batches_run_in_the_smallest_size_that_holds_them() -> None:
    views, runs = np.arange(7, dtype=np.uint8), []

    def run(part: np.ndarray, size: int) -> np.ndarray:
        runs.append((len(part), size))
        return part * 2

    assert run_in_buckets(views, (1, 3), run).tolist() == [0, 2, 4, 6, 8, 10, 12]
    assert runs == [(3, 3), (3, 3), (1, 1)]
    runs.clear()
    run_in_buckets(views[:2], (1, 3), run)
    assert runs == [(2, 3)]

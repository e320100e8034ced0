"""The runtimes: one contract, equal answers, and the choice between them."""

import json
import os
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import onnx
import onnxruntime as ort
import openvino as ov
import pytest
import torch
from numpy.typing import NDArray

from bench.layers import of_openvino
from export.graph import export_onnx, input_shape, served_network
from models import create_model
from service.errors import ManifestError, RuntimeLoadError
from service.machine import available_cores, plan_threads
from service.manifest import Artefact, PrecisionName, read_artefact
from service.runtimes.base import Runtime
from service.runtimes.gpu import GpuError
from service.runtimes.kinds import CPU_KINDS
from service.runtimes.openvino_cpu import OpenVinoCpuRuntime
from service.runtimes.openvino_graph import split_mask
from service.runtimes.selection import RuntimeChooser
from service.settings import Settings
from tests.command import clipserve
from tests.server import ROOT, serving

MODEL = ROOT / "model_repository/uniformer_tiny_shapes/1/model.onnx"
SEGMENTOR = "uniformer_tiny_shapes_fpn"


def noise(*shape: int) -> NDArray[np.uint8]:
    return np.random.default_rng(sum(shape)).integers(0, 256, shape, np.uint8)


def reference(file: Path, frames: NDArray[np.uint8], output: str) -> NDArray[Any]:
    """Return what an ordinary session of ONNX Runtime makes of the frames."""
    session = ort.InferenceSession(file, providers=["CPUExecutionProvider"])
    return np.asarray(session.run([output], {"frames": frames})[0])


@pytest.fixture(scope="module", params=CPU_KINDS)
def runtime(request: pytest.FixtureRequest) -> Runtime:
    return CPU_KINDS[request.param].open(MODEL, "fp32", 2)


@pytest.fixture(scope="module")
def segmentor(tmp_path_factory: pytest.TempPathFactory) -> Path:
    torch.manual_seed(7)
    file = tmp_path_factory.mktemp("segmentor") / "model.onnx"
    export_onnx(served_network(create_model(SEGMENTOR)), input_shape(SEGMENTOR), 2, file)
    return file


def test_settings_offer_every_runtime() -> None:
    for name in (*CPU_KINDS, "auto"):
        assert Settings.model_validate({"runtime": name}).runtime == name


@pytest.mark.parametrize("size", [1, 2, 3, 5, 8, 11])
def test_any_batch_gives_what_onnx_runtime_gives(runtime: Runtime, size: int) -> None:
    frames = noise(size, 8, 96, 96, 3)
    logits = runtime.run(frames, "logits")
    assert (logits.dtype, logits.shape) == (np.float32, (size, 11))
    assert np.abs(logits - reference(MODEL, frames, "logits")).max() < 1e-4


def test_answer_does_not_change_when_the_runtime_runs_again(runtime: Runtime) -> None:
    first = runtime.run(noise(2, 8, 96, 96, 3), "logits")
    kept = first.copy()
    runtime.run(255 - noise(2, 8, 96, 96, 3), "logits")
    assert np.array_equal(first, kept)


def test_views_that_are_not_contiguous_count_as_they_are(runtime: Runtime) -> None:
    mirrored = noise(2, 8, 96, 96, 3)[..., ::-1, :]
    expected = reference(MODEL, np.ascontiguousarray(mirrored), "logits")
    assert np.abs(runtime.run(mirrored, "logits") - expected).max() < 1e-4


def test_threads_do_not_get_each_others_answers(runtime: Runtime) -> None:
    batches = [noise(1 + number % 3, 8, 96, 96, 3) + np.uint8(number) for number in range(24)]
    expected = [reference(MODEL, batch, "logits") for batch in batches]
    with ThreadPoolExecutor(6) as threads:
        answers = list(threads.map(lambda batch: runtime.run(batch, "logits"), batches))
    for answer, wanted in zip(answers, expected, strict=True):
        assert np.abs(answer - wanted).max() < 1e-4


@pytest.mark.skipif(len(os.sched_getaffinity(0)) < 2, reason="runs of one CPU have nothing to choose")
@pytest.mark.parametrize("name", CPU_KINDS)
def test_no_run_is_held_to_a_cpu(name: str) -> None:
    """Two runs at the same time, of one thread each, as of two instances or processes: each may take any CPU."""
    frames, held = noise(8, 8, 96, 96, 3), set()
    with ThreadPoolExecutor(2) as threads:
        runtimes = [CPU_KINDS[name].open(MODEL, "fp32", 1) for _ in range(2)]
        runs = [threads.submit(runtime.run, frames, "logits") for runtime in runtimes for _ in range(3)]
        while not all(run.done() for run in runs) or not held:
            for thread in threads._threads:
                assert thread.native_id is not None
                held.add(frozenset(os.sched_getaffinity(thread.native_id)))
            time.sleep(0.005)
    assert held == {frozenset(os.sched_getaffinity(0))}


@pytest.mark.parametrize("name", CPU_KINDS)
@pytest.mark.parametrize("shape", [(1, 64, 64, 3), (2, 96, 160, 3), (1, 256, 64, 3)])
def test_segmentation_takes_any_size(name: str, segmentor: Path, shape: tuple[int, ...]) -> None:
    runtime, frames = CPU_KINDS[name].open(segmentor, "fp32", 2), noise(*shape)
    mask, logits = runtime.run(frames, "mask"), runtime.run(frames, "logits")
    assert (mask.dtype, mask.shape) == (np.uint8, shape[:3])
    assert np.abs(logits - reference(segmentor, frames, "logits")).max() < 1e-4
    # Where two classes are as likely, rounding decides.
    assert (mask == reference(segmentor, frames, "mask")).mean() > 0.999


def test_openvino_makes_the_mask_apart_from_the_logits(segmentor: Path) -> None:
    model = ov.Core().read_model(segmentor)
    mask = split_mask(model)
    assert mask is not None
    # OpenVINO has an arg max as a top 1.
    assert {output.get_any_name() for output in model.outputs} == {"logits"}
    assert "TopK" not in operators(model)
    assert {output.get_any_name() for output in mask.outputs} == {"mask"}
    assert "TopK" in operators(mask)
    assert "Convolution" not in operators(mask)


def operators(model: ov.Model) -> set[str]:
    return {node.get_type_name() for node in model.get_ops()}


def test_wrong_shape_is_an_error_and_the_next_run_is_fine(runtime: Runtime) -> None:
    with pytest.raises(Exception, match=r"[Ss]hape|[Dd]imension"):
        runtime.run(noise(1, 7, 96, 96, 3), "logits")
    frames = noise(1, 8, 96, 96, 3)
    assert np.abs(runtime.run(frames, "logits") - reference(MODEL, frames, "logits")).max() < 1e-4


@pytest.mark.parametrize("name", CPU_KINDS)
def test_file_that_is_no_model_is_named(name: str, tmp_path: Path) -> None:
    file = tmp_path / "model.onnx"
    file.write_bytes(b"nothing")
    with pytest.raises(RuntimeLoadError, match=str(file)):
        CPU_KINDS[name].open(file, "fp32", 1)


def test_precision_that_a_runtime_cannot_run_is_refused() -> None:
    with pytest.raises(RuntimeLoadError, match="onnxruntime does not run bf16 on the CPU, only fp32, fp16, int8"):
        CPU_KINDS["onnxruntime"].open(MODEL, "bf16", 1)


def has_bfloat16() -> bool:
    return bool({"avx512_bf16", "amx_bf16"} & set(Path("/proc/cpuinfo").read_text().split()))


def test_bfloat16_is_computed_or_refused() -> None:
    if not has_bfloat16():
        with pytest.raises(RuntimeLoadError, match="no bfloat16 instructions"):
            CPU_KINDS["openvino"].open(MODEL, "bf16", 2)
        return
    frames = noise(2, 8, 96, 96, 3)
    expected = reference(MODEL, frames, "logits")
    runtime = CPU_KINDS["openvino"].open(MODEL, "bf16", 2)
    error = np.linalg.norm(runtime.run(frames, "logits") - expected) / np.linalg.norm(expected)
    # bfloat16 has 8 bits of mantissa; float32 would differ by less than 1e-5.
    assert 1e-4 < error < 0.05


def test_openvino_tells_in_which_types_it_computes_layers() -> None:
    runtime = OpenVinoCpuRuntime(MODEL, "fp32", 2)
    graph = onnx.load(MODEL).graph
    parameters = {tensor.name for tensor in graph.initializer}
    # Products of two computed matrices may become part of an attention.
    least = sum(node.op_type in ("Conv", "MatMul", "Gemm") and node.input[1] in parameters for node in graph.node)
    counts = of_openvino(runtime)
    assert set(counts) == {"f32"}
    assert counts["f32"] >= least > 0


def artefact(tmp_path: Path) -> Artefact:
    return read_artefact(ROOT / "model_repository/uniformer_tiny_shapes/1")


def chooser(cache: Path, precision: PrecisionName = "fp32") -> RuntimeChooser:
    return RuntimeChooser("auto", precision, 2, cache)


def accept(runtime: Runtime) -> None:
    """Let any runtime pass."""


def test_auto_takes_the_fastest_runtime_that_computes_the_model(tmp_path: Path) -> None:
    model, batches = artefact(tmp_path), [noise(1, 8, 96, 96, 3)]
    wrong = chooser(tmp_path).load(model, batches, accept).name
    asked: list[str] = []

    def check(runtime: Runtime) -> None:
        asked.append(runtime.name)
        if runtime.name == wrong:
            raise RuntimeLoadError(f"{wrong} computes something else")

    assert chooser(tmp_path).load(model, batches, check).name == asked[1] != asked[0] == wrong

    def refuse(runtime: Runtime) -> None:
        raise RuntimeLoadError(f"{runtime.name} computes something else")

    with pytest.raises(RuntimeLoadError, match=f"{wrong} computes something else"):
        chooser(tmp_path).load(model, batches, refuse)


def test_auto_measures_once_and_keeps_what_it_measured(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO")
    model, batches = artefact(tmp_path), [noise(1, 8, 96, 96, 3), noise(2, 8, 96, 96, 3)]
    first = chooser(tmp_path).load(model, batches, accept)
    assert "measured now" in caplog.text
    assert "onnxruntime" in caplog.text
    assert "openvino" in caplog.text
    (record,) = (tmp_path / "runtimes").glob("*.json")
    content = json.loads(record.read_text())
    figures = content["seconds_per_view"]
    assert first.name == f"{min(figures, key=figures.get)}-cpu"
    assert content["measured_on"]["model"] == model.manifest.files["model.onnx"]

    # A record decides; here one that says the opposite of what was measured.
    slower = max(figures, key=figures.get)
    record.write_text(json.dumps(content | {"seconds_per_view": figures | {slower: 0.0}}))
    caplog.clear()
    assert chooser(tmp_path).load(model, batches, accept).name == f"{slower}-cpu"
    assert "as measured before" in caplog.text

    # Other batches are another question.
    chooser(tmp_path).load(model, batches[:1], accept)
    assert len(list((tmp_path / "runtimes").glob("*.json"))) == 2


def test_auto_measures_once_for_all_that_start_at_the_same_time(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    def check(_: Runtime) -> None:
        # Long enough for the others to have looked for a record, too.
        time.sleep(0.3)

    def load(_: int) -> str:
        return chooser(tmp_path).load(model, [noise(1, 8, 96, 96, 3)], check).name

    caplog.set_level("INFO")
    model = artefact(tmp_path)
    with ThreadPoolExecutor(3) as threads:
        taken = set(threads.map(load, range(3)))
    assert len(taken) == 1
    assert (caplog.text.count("measured now"), caplog.text.count("as measured before")) == (1, 2)


def test_auto_passes_over_a_runtime_whatever_it_raises(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def load(*_: object) -> Runtime:
        raise ValueError("cannot reshape array of size 1")

    def check(runtime: Runtime) -> None:
        if runtime.name == "onnxruntime-cpu":
            raise ArithmeticError("the CPU lacks something")

    model, batches = artefact(tmp_path), [noise(1, 8, 96, 96, 3)]
    assert chooser(tmp_path).load(model, batches, check).name == "openvino-cpu"
    monkeypatch.setitem(CPU_KINDS, "openvino", replace(CPU_KINDS["openvino"], load=load))
    assert chooser(tmp_path).load(model, batches, accept).name == "onnxruntime-cpu"
    with pytest.raises(RuntimeLoadError, match=r"onnxruntime cannot run .*: ArithmeticError: the CPU lacks something"):
        chooser(tmp_path).load(model, batches, check)


@pytest.mark.parametrize("content", ["", "{", "[]", '{"seconds_per_view": {"openvino": 1}}'])
def test_broken_record_is_measured_again(tmp_path: Path, content: str) -> None:
    model, batches = artefact(tmp_path), [noise(1, 8, 96, 96, 3)]
    chooser(tmp_path).load(model, batches, accept)
    (record,) = (tmp_path / "runtimes").glob("*.json")
    record.write_text(content)
    chooser(tmp_path).load(model, batches, accept)
    assert set(json.loads(record.read_text())["seconds_per_view"]) == set(CPU_KINDS)


def test_cache_that_cannot_be_written_is_no_error(tmp_path: Path) -> None:
    file = tmp_path / "file"
    file.write_text("in the way")
    assert chooser(file).load(artefact(tmp_path), [noise(1, 8, 96, 96, 3)], accept).precision == "fp32"


def test_precision_that_the_artefact_lacks_is_named(tmp_path: Path) -> None:
    with pytest.raises(ManifestError, match="has no precision int8; it has fp32"):
        chooser(tmp_path, "int8").load(artefact(tmp_path), [], accept)


def test_server_runs_on_the_runtime_that_was_asked_for(tmp_path: Path) -> None:
    with serving(tmp_path, runtime="openvino", runtime_threads=1, decode_workers=1) as server:
        models = httpx.get(f"{server.url}/v1/models").json()["models"]
        assert {(model["runtime"], model["precision"]) for model in models} == {("openvino-cpu", "fp32")}
        clip = (ROOT / "demo/media/sample.mp4").read_bytes()
        answer = httpx.post(f"{server.url}/v1/classify", content=clip, timeout=60).json()
        assert answer["predictions"][0]["label"] == "rotating clockwise"
        assert f"cores {available_cores()}, decode processes 1, threads of a run 1" in server.log.read_text()


def test_runtime_that_is_not_installed_stops_the_start_and_names_the_extra(tmp_path: Path) -> None:
    run = clipserve("serve", "--port", "0", "--runtime", "openvino", without="openvino")
    assert run.returncode == 1
    (reason,) = [line for line in run.stderr.splitlines() if "cannot start: " in line]
    assert "runtime openvino is not installed" in reason
    assert "pip install 'clipserve[openvino]'" in run.stderr
    assert "Traceback" not in run.stderr


def test_auto_passes_over_a_runtime_that_does_not_open(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    broken = tmp_path / "broken/openvino/__init__.py"
    broken.parent.mkdir(parents=True)
    broken.write_text("raise ImportError('libtbb.so.12: cannot open shared object file')")
    monkeypatch.setenv("PYTHONPATH", str(broken.parents[1]))
    # The second start finds no record of a measurement that it could trust.
    for _ in range(2):
        with serving(tmp_path, runtime="auto", cache=tmp_path / "cache", decode_workers=1) as server:
            models = httpx.get(f"{server.url}/v1/models").json()["models"]
            assert {model["runtime"] for model in models} == {"onnxruntime-cpu"}
            assert "openvino is passed over" in server.log.read_text()
            assert "libtbb.so.12" in server.log.read_text()


def test_runtime_that_fails_when_it_runs_is_named(tmp_path: Path) -> None:
    def check(runtime: Runtime) -> None:
        runtime.run(noise(1, 8, 96, 96, 4), "logits")

    model = artefact(tmp_path)
    with pytest.raises(RuntimeLoadError, match=r"onnxruntime cannot run .*model\.onnx: .*[Ii]nvalid"):
        RuntimeChooser("onnxruntime", "fp32", 1, tmp_path).load(model, [], check)
    with pytest.raises(RuntimeLoadError, match=r"runtime .* cannot run .*model\.onnx"):
        chooser(tmp_path).load(model, [noise(1, 8, 96, 96, 3)], check)


def test_error_of_the_gpu_stops_the_start_as_any_other() -> None:
    def load(*_: object) -> Runtime:
        raise GpuError("cudaMalloc: out of memory")

    kind = replace(CPU_KINDS["onnxruntime"], load=load)
    with pytest.raises(RuntimeLoadError, match=r"the GPU does not take .*model\.onnx: cudaMalloc: out of memory"):
        kind.open(MODEL, "fp32", 1)


def test_two_packages_of_onnx_runtime_are_named_before_the_gpu_is_asked(tmp_path: Path) -> None:
    metadata = tmp_path / "onnxruntime_gpu-1.31.1.dist-info/METADATA"
    metadata.parent.mkdir()
    metadata.write_text("Metadata-Version: 2.1\nName: onnxruntime-gpu\nVersion: 1.31.1\n")
    run = clipserve("serve", "--port", "0", "--runtime", "cuda", PYTHONPATH=str(tmp_path))
    assert run.returncode == 1
    (reason,) = [line for line in run.stderr.splitlines() if "cannot start: " in line]
    assert "uninstall both" in reason


def test_importing_the_runtimes_reports_to_nobody(tmp_path: Path) -> None:
    code = (
        "import service.runtimes.openvino_cpu, os, sys\n"
        "loaded = [name for name, module in sys.modules.items() if name.startswith('openvino_telemetry') and module]\n"
        "print(loaded, os.environ['ORT_DISABLE_TELEMETRY'], os.listdir(os.environ['HOME']))"
    )
    environment = {**os.environ, "HOME": str(tmp_path)}
    environment.pop("CI", None)  # there the maker asks for no reports
    run = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT, env=environment, check=True
    )
    assert run.stdout.strip() == "[] 1 []"


@pytest.mark.parametrize(("workers", "threads"), [(0, 0), (3, 0), (0, 1), (5, 7)])
def test_plan_gives_each_what_was_asked_for_or_every_core(workers: int, threads: int) -> None:
    plan = plan_threads(workers, threads)
    assert plan.decode_workers == (workers or plan.cores)
    assert plan.runtime_threads == (threads or plan.cores)
    assert 1 <= plan.cores <= len(os.sched_getaffinity(0))


def test_plan_keeps_to_the_cores_that_the_process_may_run_on() -> None:
    core = min(os.sched_getaffinity(0))
    code = f"import os; os.sched_setaffinity(0, {{{core}}}); from service.machine import plan_threads as plan"
    run = subprocess.run(
        [sys.executable, "-c", f"{code}; print(plan(0, 0))"], capture_output=True, text=True, cwd=ROOT, check=True
    )
    assert run.stdout.strip() == "cores 1, decode processes 1, threads of a run 1"

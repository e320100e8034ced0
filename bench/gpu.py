"""Speed and parity on an NVIDIA GPU: `make bench-gpu`, or `python -m bench.gpu [--batch N]`.

For each network: torch, torch.compile and ONNX Runtime's CUDA provider, and TensorRT where it is installed, in float32,
float16 and bfloat16. All start from uint8 views in host memory and end with logits there. They take turns in one run;
the least time of each counts. The ratio is that of torch in float32 to the contestant, the error that against ONNX
Runtime on the CPU in float32. Also tells whether TensorRT-RTX runs on this GPU, and whether it decodes video (NVDEC).
Status 1 where there is no GPU, a contestant does not run, or its error is over what an export may differ by. Prints
Markdown.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
from collections.abc import Callable, Sequence
from functools import partial
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path
from time import perf_counter
from typing import Any

import av
import numpy as np
import onnx
import torch
from av.codec.hwaccel import HWAccel
from numpy.typing import NDArray
from torch import Tensor

from bench.turns import least_seconds
from export.graph import ServedNetwork, export_onnx, input_shape, served_network
from export.verification import ACCEPTANCE, verification_inputs
from models import create_model, load_checkpoint
from service.errors import RuntimeLoadError
from service.manifest import PrecisionName
from service.runtimes.base import Runtime
from service.runtimes.gpu import find_gpu
from service.runtimes.kinds import CPU_KINDS, KINDS
from service.runtimes.options import GpuOptions

NETWORKS = ("uniformer_tiny_shapes", "uniformer_s_16x4_k400", "mvit_b_16x4_k400", "morphmlp_s_16x4_k400")
PRECISIONS: tuple[PrecisionName, ...] = ("fp32", "fp16", "bf16")
DTYPES = {"fp32": torch.float32, "fp16": torch.float16, "bf16": torch.bfloat16}
WEIGHTS = Path("demo/weights")
SAMPLE = Path("demo/media/sample.mp4")
ROUNDS = 20

Run = Callable[[NDArray[np.uint8]], NDArray[Any]]
Contestant = tuple[str, PrecisionName]
BASELINE: Contestant = ("torch", "fp32")


def network_of(name: str) -> Any:
    """Return a network with the demo's weights if there are any, else with random ones, always the same."""
    torch.manual_seed(0)
    network = create_model(name)
    if (WEIGHTS / f"{name}.safetensors").is_file():
        load_checkpoint(network, WEIGHTS / f"{name}.safetensors")
    return network


def files_of(name: str, precisions: Sequence[PrecisionName], folder: Path) -> dict[PrecisionName, Path]:
    """Export a network and return its files, with the graphs that `clipserve export` would write."""
    files = {}
    for precision in precisions:
        files[precision] = folder / f"{precision}.onnx"
        served = served_network(network_of(name), DTYPES[precision])
        export_onnx(served, input_shape(name), 8, files[precision], ACCEPTANCE[precision].runtime)
    return files


def compiled(served: ServedNetwork, example: Tensor) -> Any:
    """Return a network compiled as one graph, for views of the example's shape.

    Where it is not one graph, torch raises an error. Otherwise it would run what it has not compiled all the same:
    parts of a network that it cannot trace, or the whole after too many others. It is traced by torch.export, which
    gets through networks in half precision that torch.compile breaks into pieces.
    """
    return torch.compile(torch.export.export(served, (example,)).module(), fullgraph=True)


def torch_runner(name: str, precision: PrecisionName, is_compiled: bool, views: NDArray[np.uint8]) -> Run:
    """Return torch on the GPU, from views in host memory to logits there; compiled, for views of that shape alone."""
    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = False
    served: Any = served_network(network_of(name), DTYPES[precision]).cuda()
    if is_compiled:
        served = compiled(served, torch.from_numpy(views).cuda())

    def run(views: NDArray[np.uint8]) -> NDArray[Any]:
        with torch.inference_mode():
            logits: NDArray[Any] = served(torch.from_numpy(views).pin_memory().cuda(non_blocking=True)).cpu().numpy()
        return logits

    return run


def gpu_runtime(
    runtime: str, file: Path, precision: PrecisionName, batch_sizes: tuple[int, ...], cache: Path
) -> Runtime:
    """Return a runtime of the service on the GPU."""
    # Of the file itself: not every runtime that could be asked takes bf16.
    frames = onnx.load(file, load_external_data=False).graph.input[0]
    view = tuple(axis.dim_value for axis in frames.type.tensor_type.shape.dim[1:])
    options = GpuOptions(batch_sizes, (view, view, view), 0, cache)
    return KINDS[runtime].open(file, precision, 1, options)


def contestants(
    name: str, files: dict[PrecisionName, Path], batch: int, cache: Path
) -> tuple[dict[Contestant, Run], list[str]]:
    """Return everything that runs the network here, and why the rest does not."""
    views = verification_inputs(input_shape(name), batch)
    ways: dict[str, Callable[[PrecisionName], Run]] = {
        "torch": lambda precision: torch_runner(name, precision, False, views),
        "torch.compile": lambda precision: torch_runner(name, precision, True, views),
    }
    for kind in ("cuda", "tensorrt"):
        if kind == "cuda" or find_spec(kind):
            ways[kind] = lambda precision, kind=kind: _of_runtime(  # type: ignore[misc]
                gpu_runtime(kind, files[precision], precision, (batch,), cache)
            )
    found: dict[Contestant, Run] = {}
    failures: list[str] = []
    for way, make in ways.items():
        for precision in files:
            try:
                run = make(precision)
                run(views)
            except Exception as error:
                # Each library has exceptions of its own, and the others are to be measured all the same.
                failures.append(f"{name}, batch {batch}, {way}, {precision}: does not run: {error}")
            else:
                found[way, precision] = run
    return found, failures


def _of_runtime(runtime: Runtime) -> Run:
    return lambda views: runtime.run(views, "logits")


def measure(name: str, batch: int, folder: Path) -> list[str]:
    """Print a line for each contestant; return what does not run, or not well enough."""
    # What was compiled for other networks and batches changes how torch compiles, and takes memory.
    torch.compiler.reset()
    files = files_of(name, PRECISIONS, folder)
    views = verification_inputs(input_shape(name), batch)
    wanted = CPU_KINDS["onnxruntime"].open(files["fp32"], "fp32", 0).run(views, "logits")
    spread = np.linalg.norm(wanted - wanted.mean(axis=1, keepdims=True), axis=1)
    runs, failures = contestants(name, files, batch, folder)
    errors = {key: float((np.linalg.norm(run(views) - wanted, axis=1) / spread).max()) for key, run in runs.items()}
    best = least_seconds({key: partial(run, views) for key, run in runs.items()}, ROUNDS, perf_counter)
    for (way, precision), seconds in best.items():
        ratio = f"{best[BASELINE] / seconds:.2f}" if BASELINE in best else "-"
        print(
            f"| {name} | {batch} | {way} | {precision} | {1000 * seconds / batch:.3f} | {ratio} "
            f"| {errors[way, precision]:.1e} |"
        )
        if not errors[way, precision] < (limit := ACCEPTANCE[precision].relative_error):
            failures.append(
                f"{name}, batch {batch}, {way}, {precision}: error {errors[way, precision]:.1e}, limit {limit:g}"
            )
    return failures


def try_tensorrt_rtx() -> str:
    """Return what comes of running the demo network with TensorRT-RTX, in another process: it may crash."""
    if find_spec("tensorrt_rtx") is None:
        return "not installed"
    run = subprocess.run(
        [sys.executable, "-m", "bench.gpu", "--tensorrt-rtx"], capture_output=True, text=True, check=False
    )
    said = (run.stdout if run.returncode == 0 else run.stderr).strip().splitlines()
    return said[-1] if said else f"ended with status {run.returncode} without a word"


def run_tensorrt_rtx() -> str:
    """Return the error of the demo network's logits against the CPU's."""
    name = NETWORKS[0]
    views = verification_inputs(input_shape(name), 4)
    with tempfile.TemporaryDirectory() as folder:
        file = files_of(name, ["fp32"], Path(folder))["fp32"]
        wanted = CPU_KINDS["onnxruntime"].open(file, "fp32", 0).run(views, "logits")
        actual = gpu_runtime("tensorrt_rtx", file, "fp32", (1, 4), Path(folder)).run(views, "logits")
    return f"runs; largest difference of a logit from the CPU's {np.abs(actual - wanted).max():.1e}"


def try_nvdec() -> str:
    """Return whether the GPU decodes the sample clip to the frames that the CPU decodes."""
    try:
        began = perf_counter()
        with av.open(SAMPLE, hwaccel=HWAccel("cuda", allow_software_fallback=False)) as container:
            is_hardware = container.streams.video[0].codec_context.is_hwaccel
            frames = [frame.to_ndarray(format="rgb24") for frame in container.decode(video=0)]
        seconds = perf_counter() - began
    except (OSError, RuntimeError, ValueError, NotImplementedError) as error:
        return f"does not decode: {type(error).__name__}: {error}"
    began = perf_counter()
    with av.open(SAMPLE) as container:
        expected = [frame.to_ndarray(format="rgb24") for frame in container.decode(video=0)]
    on_cpu = perf_counter() - began
    same = len(frames) == len(expected) and all(map(np.array_equal, frames, expected))
    return (
        f"{'decodes' if is_hardware else 'falls back to the CPU for'} {len(frames)} frames in {1000 * seconds:.0f} ms "
        f"({1000 * on_cpu:.0f} ms on the CPU), {'the same' if same else 'others than there'}"
    )


def main() -> int:
    """Measure everything; 1 where that is not possible, or something is wrong."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--batch", type=int, action="append", help="batch size, more than one by repeating (1 and 8)")
    parser.add_argument("--network", action="append", help="registered name, more than one by repeating")
    parser.add_argument("--tensorrt-rtx", action="store_true", help="only try TensorRT-RTX")
    arguments = parser.parse_args()
    try:
        gpu = find_gpu()
        if arguments.tensorrt_rtx:
            print(run_tensorrt_rtx())
            return 0
    except RuntimeLoadError as error:
        print(f"bench.gpu: {error}", file=sys.stderr)
        return 1
    print(f"{gpu.name}, compute capability {gpu.compute_capability}, driver {gpu.driver}; torch {torch.__version__}, ")
    print(f"onnxruntime {CPU_KINDS['onnxruntime'].version}, PyAV {version('av')}\n")
    print("| network | batch | on the GPU | precision | ms a view | torch fp32 / this | relative error |")
    print("| --- | --- | --- | --- | --- | --- | --- |")
    failures: list[str] = []
    for name in arguments.network or NETWORKS:
        for batch in arguments.batch or (1, 8):
            with tempfile.TemporaryDirectory() as folder:
                failures += measure(name, batch, Path(folder))
    print(f"\nTensorRT-RTX: {try_tensorrt_rtx()}")
    print(f"NVDEC: {try_nvdec()}")
    for failure in failures:
        print(f"- {failure}")
    return 1 if failures else 0


if __name__ == "__main__":
    sys.exit(main())

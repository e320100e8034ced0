"""Measure networks of the papers' sizes on every runtime and precision (`python -m bench.networks [NAME ...]`).

The contestants and a matrix product of each type take turns on the same cores, and the least time of each counts. A
size stands beside the name where it is not the registry's. Threads of torch sleep while they wait, and take no core
from the next in turn. Speed is given in GFLOP/s, by the operations that models/figures.py counts, and as a share of
what the fastest matrix product of the same type reaches in the same turns (bench/peak.py). *Layers* are convolutions
and matrix products, by the type that the runtime says it computes them in. All networks are asked for their logits, as
the server asks; torch and ONNX Runtime compute the masks of segmentation networks all the same. Weights are random and
inputs noise: neither changes the time. bf16 is left out where the CPU has no instructions for it: OpenVINO would
compute in float32. Prints a table in Markdown.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from time import perf_counter

import numpy as np
import torch
from numpy.typing import NDArray

from bench import peak
from bench.artefacts import Subject, model_files
from bench.layers import layers
from bench.turns import least_seconds, restart_with_passive_threads
from demo.arguments import one_of
from export.graph import ServedNetwork, served_network
from models.figures import count_gmacs
from service.machine import available_cores
from service.manifest import PrecisionName
from service.runtimes.kinds import CPU_KINDS
from service.runtimes.openvino_cpu import has_bfloat16

SUBJECTS = (
    Subject("uniformer_s_16x4_k400"),
    Subject("mvit_b_16x4_k400"),
    Subject("morphmlp_s_16x4_k400"),
    Subject("mlp3d_xs_k400", size=128),
    Subject("smlpnet_t_in1k"),
    Subject("uniformer_s_in1k"),
    Subject("uniformer_xxs_16x128_k400"),
    Subject("uniformer_s_fpn_ade20k"),
)

# Runtime and precision.
Key = tuple[str, peak.Type]
# "network" or "product", who computes it, and in which type.
Run = tuple[str, str, peak.Type]


def runtimes() -> list[Key]:
    """Return the runtimes, each with a precision that this CPU computes in."""
    precisions: dict[str, list[peak.Type]] = {
        "onnxruntime": ["fp32", "int8"],
        "openvino": ["fp32", "bf16", "int8"] if has_bfloat16() else ["fp32", "int8"],
    }
    return [(runtime, precision) for runtime, listed in precisions.items() for precision in listed]


def files_of(subject: Subject) -> dict[PrecisionName, Path]:
    """Return the model files that are measured, made if they are not there."""
    return model_files(subject, sorted({precision for _, precision in runtimes()}), _report)


@dataclass(frozen=True)
class Contestant:
    """A network ready to run.

    Attributes:
        run: Computes one view.
        layers: In which types it is computed.
    """

    run: Callable[[], object]
    layers: str


def contestants(subject: Subject, threads: int) -> dict[Key, Contestant]:
    """Return the network in every runtime and precision."""
    frames = np.random.default_rng(0).integers(0, 256, (1, *subject.view_shape), np.uint8)
    files = files_of(subject)
    served = served_network(subject.network())
    eager = partial(_run_torch, served, frames)
    ready: dict[Key, Contestant] = {("torch eager", "fp32"): Contestant(eager, "f32")}
    for runtime, precision in runtimes():
        loaded = CPU_KINDS[runtime].open(files[precision], precision, threads)
        ready[runtime, precision] = Contestant(partial(loaded.run, frames, "logits"), layers(loaded, files[precision]))
    return ready


@torch.inference_mode()
def _run_torch(served: ServedNetwork, frames: NDArray[np.uint8]) -> object:
    return served(torch.from_numpy(frames))


def measure(subject: Subject, rounds: int, threads: int) -> None:
    """Print a line for each contestant."""
    ready = contestants(subject, threads)
    types = {precision for _, precision in ready}
    runs: dict[Run, Callable[[], object]] = {("network", *key): contestant.run for key, contestant in ready.items()}
    runs |= {("product", *key): run for key, run in peak.products(types, threads).items()}
    seconds = least_seconds(runs, rounds, perf_counter)
    gflop = 2 * count_gmacs(subject.network().to("meta"), (3, *subject.view_shape[:-1]))
    for (runtime, precision), contestant in ready.items():
        spent = seconds["network", runtime, precision]
        products = [least for (what, _, kind), least in seconds.items() if (what, kind) == ("product", precision)]
        speed, most = gflop / spent, peak.GFLOP / min(products)
        print(
            f"| {subject.title} | {gflop:.1f} | {runtime} | {precision} | {contestant.layers} | {1000 * spent:.1f} "
            f"| {speed:.0f} | {most:.0f} | {speed / most:.2f} |",
            flush=True,
        )


def _report(step: str) -> None:
    print(f"- {step}", file=sys.stderr, flush=True)


def main() -> None:
    """Measure the networks named, or all."""
    parser = argparse.ArgumentParser(description=__doc__)
    names = [subject.name for subject in SUBJECTS]
    parser.add_argument("names", nargs="*", type=one_of(names), metavar="NAME", help=f"of {', '.join(names)} (all)")
    parser.add_argument("--rounds", type=int, default=5, help="turns of each contestant (%(default)s)")
    parser.add_argument("--prepare", action="store_true", help="make the model files and measure nothing")
    arguments = parser.parse_args()
    restart_with_passive_threads()
    chosen = [subject for subject in SUBJECTS if not arguments.names or subject.name in arguments.names]
    threads = available_cores()
    torch.set_num_threads(threads)
    # All files first, so that nothing is made between measurements.
    for subject in chosen:
        files_of(subject)
    if arguments.prepare:
        return
    print("The logits of one view.\n")
    print("| network | GFLOP | runtime | precision | layers | ms | GFLOP/s | matrix product, GFLOP/s | share |")
    print("| --- | --- | --- | --- | --- | --- | --- | --- | --- |")
    for subject in chosen:
        measure(subject, arguments.rounds, threads)


if __name__ == "__main__":
    main()

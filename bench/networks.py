"""Measure networks of the papers' sizes on every runtime and precision (`python -m bench.networks [NAME ...]`).

The contestants and a matrix product of each type take turns on the same cores, and the least time of each counts. Speed
is given in GFLOP/s, by the operations that models/figures.py counts, and as a share of what the matrix product of the
same type reaches in the same turns. Weights are random and inputs noise: neither changes the time. Prints a table in
Markdown.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable
from functools import partial
from time import perf_counter

import numpy as np
import torch
from numpy.typing import NDArray

from bench import peak
from bench.artefacts import Subject, model_files
from export.graph import ServedNetwork, served_network
from models.figures import count_gmacs
from service.machine import available_cores
from service.runtimes.kinds import KINDS

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

Key = tuple[str, peak.Type]
RUNTIMES: tuple[Key, ...] = (
    ("onnxruntime", "fp32"),
    ("onnxruntime", "int8"),
    ("openvino", "fp32"),
    ("openvino", "bf16"),
    ("openvino", "int8"),
)
PRODUCT = "matrix product"


def contestants(subject: Subject, threads: int) -> dict[Key, Callable[[], object]]:
    """Return functions that run one view of the network, by runtime and precision."""
    frames = np.random.default_rng(0).integers(0, 256, (1, *subject.view_shape), np.uint8)
    files = model_files(subject, _report)
    runs: dict[Key, Callable[[], object]] = {
        ("torch eager", "fp32"): partial(_run_torch, served_network(subject.network()), frames)
    }
    for runtime, precision in RUNTIMES:
        loaded = KINDS[runtime].open(files[precision], precision, threads)
        runs[runtime, precision] = partial(loaded.run, frames, "logits")
    return runs


@torch.inference_mode()
def _run_torch(served: ServedNetwork, frames: NDArray[np.uint8]) -> object:
    return served(torch.from_numpy(frames))


def least_seconds(runs: dict[Key, Callable[[], object]], rounds: int) -> dict[Key, float]:
    """Let the functions take turns, once more than `rounds`, and return the least time of each."""
    least = dict.fromkeys(runs, float("inf"))
    for _ in range(rounds + 1):
        for key, run in runs.items():
            began = perf_counter()
            run()
            least[key] = min(least[key], perf_counter() - began)
    return least


def measure(subject: Subject, rounds: int, threads: int) -> None:
    """Print a line for each contestant."""
    products: dict[Key, Callable[[], object]] = {(PRODUCT, kind): run for kind, run in peak.products().items()}
    seconds = least_seconds(products | contestants(subject, threads), rounds)
    gflop = 2 * count_gmacs(subject.network().to("meta"), (3, *subject.view_shape[:-1]))
    for (runtime, precision), spent in seconds.items():
        if runtime != PRODUCT:
            speed, most = gflop / spent, peak.GFLOP / seconds[PRODUCT, precision]
            print(
                f"| {subject.name} | {gflop:.1f} | {runtime} | {precision} | {1000 * spent:.1f} | {speed:.0f} "
                f"| {most:.0f} | {speed / most:.2f} |",
                flush=True,
            )


def _report(step: str) -> None:
    print(f"- {step}", file=sys.stderr, flush=True)


def main() -> None:
    """Measure the networks named, or all."""
    parser = argparse.ArgumentParser(description=__doc__)
    names = [subject.name for subject in SUBJECTS]
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"of {', '.join(names)} (all)")
    parser.add_argument("--rounds", type=int, default=4, help="turns of each contestant (%(default)s)")
    parser.add_argument("--prepare", action="store_true", help="make the model files and measure nothing")
    arguments = parser.parse_args()
    if unknown := set(arguments.names) - set(names):
        parser.error(f"{', '.join(sorted(unknown))}: give names of {', '.join(names)}")
    chosen = [subject for subject in SUBJECTS if not arguments.names or subject.name in arguments.names]
    threads = available_cores()
    torch.set_num_threads(threads)
    # All files first, so that nothing is made between measurements.
    for subject in chosen:
        model_files(subject, _report)
    if arguments.prepare:
        return
    print("| network | GFLOP | runtime | precision | ms | GFLOP/s | matrix product, GFLOP/s | share |")
    print("| --- | --- | --- | --- | --- | --- | --- | --- |")
    for subject in chosen:
        measure(subject, arguments.rounds, threads)


if __name__ == "__main__":
    main()

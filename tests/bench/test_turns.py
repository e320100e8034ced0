"""Contestants that take turns."""

import os
import subprocess
import sys
from itertools import count

from bench.turns import least_seconds, spread
from tests.server import ROOT

# Runs `python -m bench.networks` but for what it measures, which is how much processor time passes after a product.
BENCHMARK = """
import time
import torch
from bench import networks

def spent(matrix):
    torch.mm(matrix, matrix)
    began = time.process_time()
    time.sleep(0.03)
    return time.process_time() - began

def measure(subject, rounds, threads):
    matrix = torch.rand(1024, 1024)
    print(min(spent(matrix) for _ in range(9)))

networks.files_of = lambda subject: {}
networks.measure = measure
networks.main()
"""


def test_every_other_round_goes_in_the_opposite_order() -> None:
    order: list[str] = []
    runs = {name: (lambda name=name: order.append(name)) for name in "abc"}
    least_seconds(runs, 3, lambda: 0.0)
    assert "".join(order) == "abccbaabc"


def test_the_least_time_of_each_counts() -> None:
    # A clock by which the first turn takes a second, the next one two, and so on.
    ticks, elapsed = count(1), [0.0]

    def work() -> None:
        elapsed[0] += next(ticks)

    assert least_seconds({"a": work, "b": work}, 3, lambda: elapsed[0]) == {"a": 1, "b": 2}


def test_threads_of_torch_are_at_rest_when_the_next_contestant_runs() -> None:
    environment = {name: value for name, value in os.environ.items() if name != "OMP_WAIT_POLICY"}
    run = subprocess.run(
        [sys.executable, "-c", BENCHMARK, "smlpnet_t_in1k"],
        capture_output=True,
        text=True,
        cwd=ROOT,
        env={**environment, "PYTHONPATH": str(ROOT)},
        check=False,
    )
    assert run.returncode == 0, run.stderr
    # Awake they use a tenth to a quarter of the 30 ms.
    assert float(run.stdout.splitlines()[-1]) < 0.0015


def test_spread_is_the_median_between_the_ends() -> None:
    assert spread([3.14, 1.0, 2.0]) == "2.0 (1.0 to 3.1)"
    assert spread([3.14, 1.0, 2.0], 2) == "2.00 (1.00 to 3.14)"

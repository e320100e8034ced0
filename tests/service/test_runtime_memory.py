"""What a runtime keeps between its runs, seen from outside: the memory of a process of its own."""

import subprocess
import sys

import pytest

from tests.server import REPOSITORY

RESIDENT = """
import sys
from pathlib import Path
import numpy as np
from service.runtimes.kinds import CPU_KINDS

def megabytes():
    return int(Path("/proc/self/status").read_text().split("VmRSS:")[1].split()[0]) / 1000

runtime = CPU_KINDS[sys.argv[1]].open(Path(sys.argv[2]), "fp32", 2)
"""
REPEATED = """
views = np.zeros((8, 8, 96, 96, 3), np.uint8)
runtime.run(views, "logits")
before = megabytes()
for _ in range(3):
    runtime.run(views, "logits")
print(megabytes() - before)
"""
# After half of the sizes the kernels that are kept have reached their limit.
MANY_SIZES = """
sizes = [(h, w) for h in range(128, 512, 32) for w in range(128, 512, 32)]
for number, (height, width) in enumerate(sizes):
    if number == len(sizes) // 2:
        before = megabytes()
    runtime.run(np.zeros((1, height, width, 3), np.uint8), "logits")
print(megabytes() - before)
"""


def growth(script: str, runtime: str, model: str) -> float:
    """Return by how many MB a process grew in the part of `script` that it measures."""
    command = [sys.executable, "-c", RESIDENT + script, runtime, str(REPOSITORY / model / "1" / "model.onnx")]
    return float(subprocess.run(command, check=True, capture_output=True, text=True, timeout=300).stdout)


def test_a_shape_that_comes_again_takes_no_more_memory() -> None:
    assert growth(REPEATED, "onnxruntime", "uniformer_tiny_shapes") < 8


@pytest.mark.slow
def test_pictures_of_ever_new_sizes_do_not_take_ever_more_memory() -> None:
    assert growth(MANY_SIZES, "openvino", "uniformer_tiny_shapes_fpn") < 70

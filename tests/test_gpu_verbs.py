"""`make test-gpu` and `make bench-gpu` where a GPU is promised and missing."""

import os
import subprocess
import sys

import pytest

from tests.server import ROOT


@pytest.mark.parametrize(
    "command", [("pytest", "-m", "gpu", "-p", "no:cacheprovider", "tests/gpu", "-k", "server"), ("bench.gpu",)]
)
def test_promised_gpu_that_is_missing_is_a_failure(command: tuple[str, ...]) -> None:
    environment = {**os.environ, "CLIPSERVE_GPU_PROMISED": "1", "CUDA_VISIBLE_DEVICES": ""}
    run = subprocess.run(
        [sys.executable, "-m", *command], capture_output=True, text=True, cwd=ROOT, env=environment, check=False
    )
    assert run.returncode == 1
    assert "NVIDIA" in run.stdout + run.stderr

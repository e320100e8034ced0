"""What the form of CycleFC is worth: `python -m bench.cycle_fc` runs a CycleMLP with two forms of it, in turns.

The official code calls a deformable convolution whose offsets are whole numbers: it fetches each channel at a position
of its own. Said plainly in a graph that is a gather; the network (models/cyclemlp.py) has a depthwise convolution with
one live tap a channel. Both graphs compute the same, with the same random weights. Processor time of one thread.
"""

from __future__ import annotations

import argparse
import tempfile
from functools import partial
from pathlib import Path
from time import process_time
from unittest.mock import patch

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import linear, pad

from bench.turns import least_seconds
from export.graph import export_onnx, input_shape, served_network
from models import create_model
from models.cyclemlp import CycleFC, cycle_shifts
from models.layers import to_tokens
from service.runtimes.kinds import CPU_KINDS

NAME = "cyclemlp_b1_in1k"
ROUNDS = 20


def gathered(layer: CycleFC, x: Tensor) -> Tensor:
    """Compute a CycleFC by a gather: (B, C, H, W) -> (B, N, C)."""
    rows, columns = layer.padding
    axis = 2 if rows else 3
    padded = pad(x, (columns, columns, rows, rows))
    places = torch.arange(x.shape[axis]) + 1 + cycle_shifts(layer.dim)[:, None]  # (C, H) or (C, W)
    index = places[None, :, :, None] if rows else places[None, :, None, :]
    return linear(to_tokens(padded.gather(axis, index.expand(x.shape))), layer.weight.flatten(1), layer.bias)


def write_files(folder: Path) -> dict[str, Path]:
    """Return the ONNX file of each form."""
    torch.manual_seed(0)
    served, files = served_network(create_model(NAME)), {}
    for form, forward in {"depthwise": CycleFC.forward, "gather": gathered}.items():
        files[form] = folder / f"{form}.onnx"
        with patch.object(CycleFC, "forward", forward):
            export_onnx(served, input_shape(NAME), 2, files[form], "onnxruntime")
    return files


def main() -> None:
    """Check that the forms agree, let them take turns, and print the least processor time of each."""
    argparse.ArgumentParser(description=__doc__).parse_args()
    frames = np.random.default_rng(0).integers(0, 256, (1, *input_shape(NAME)), np.uint8)
    with tempfile.TemporaryDirectory() as folder:
        files = write_files(Path(folder))
        runs = {
            (runtime, form): partial(CPU_KINDS[runtime].open(file, "fp32", 1).run, frames, "logits")
            for runtime in ("onnxruntime", "openvino")
            for form, file in files.items()
        }
    expected, *others = (run() for run in runs.values())
    for other in others:
        np.testing.assert_allclose(other, expected, rtol=0, atol=1e-4)
    for (runtime, form), seconds in least_seconds(runs, ROUNDS, process_time).items():
        print(f"{runtime:<12} {form:<10} {1000 * seconds:6.1f} ms")


if __name__ == "__main__":
    main()

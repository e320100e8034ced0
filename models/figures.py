"""Parameters and multiply-adds of every registered network, counted from the network itself.

`python -m models.figures` counts them anew and writes figures.json, from which the command line's table is made; a test
holds the file to the networks, and the networks to what the papers print.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from functools import cache
from pathlib import Path

import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from models.registry import list_models, model_entry

FIGURES_FILE = Path(__file__).with_name("figures.json")


@dataclass(frozen=True)
class Figures:
    """Size of a network.

    Attributes:
        params: Learned numbers.
        gmacs: 10^9 multiply-adds of convolutions, linear layers and matrix products for one view.
    """

    params: int
    gmacs: float


def measure(name: str) -> Figures:
    """Count the figures of model `name` without allocating its weights or its activations."""
    entry = model_entry(name)
    weights = entry.weights
    height, width = weights.preprocessing.input_size
    frames = (weights.sampling.num_frames,) if weights.task == "video_classification" else ()
    with torch.device("meta"):
        network = entry.network(entry.config).eval()
    params = sum(parameter.numel() for parameter in network.parameters())
    return Figures(params, round(count_gmacs(network, (3, *frames, height, width)), 4))


def count_gmacs(network: nn.Module, view_shape: tuple[int, ...]) -> float:
    """Return 10^9 multiply-adds of convolutions, linear layers and matrix products for one view (3, ..., H, W).

    On torch's meta device nothing is computed.
    """
    with torch.device("meta"), FlopCounterMode(display=False) as counter, torch.no_grad():
        network(torch.empty(1, *view_shape))
    return float(counter.get_total_flops()) / 2e9


@cache
def load_figures() -> dict[str, Figures]:
    """Return the stored figures of every registered name."""
    stored = json.loads(FIGURES_FILE.read_text(encoding="utf-8"))
    return {name: Figures(**figures) for name, figures in stored.items()}


def main(arguments: Sequence[str] | None = None) -> None:
    """Write figures.json; take no arguments but `--help`."""
    argparse.ArgumentParser(
        prog="python -m models.figures",
        description=f"Count the parameters and multiply-adds of every registered network and write {FIGURES_FILE}.",
    ).parse_args(arguments)
    figures = {name: asdict(measure(name)) for name in list_models()}
    lines = [f"  {json.dumps(name)}: {json.dumps(values)}" for name, values in figures.items()]
    FIGURES_FILE.write_text("{\n" + ",\n".join(lines) + "\n}\n", encoding="utf-8")


if __name__ == "__main__":
    main()

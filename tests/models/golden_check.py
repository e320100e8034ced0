"""Compare a network with a golden file: outputs of the authors' code for deterministic weights and input."""

from __future__ import annotations

import json
from fnmatch import fnmatch
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from models import Network, create_model, load_checkpoint
from models.figures import count_gmacs
from tests.golden.fill import fill, golden_input

GOLDEN_FOLDER = Path(__file__).parents[1] / "golden"
TOLERANCE = 1e-4
# How programs that write official checkpoints wrap the state dict; every golden is loaded through one of these in turn.
WRAPPERS = ("model", "model_state", "state_dict", None)


def read_golden(path: str) -> dict[str, Any]:
    """Return the golden file `<family>/<name>` as a dictionary."""
    golden: dict[str, Any] = json.loads((GOLDEN_FOLDER / f"{path}.json").read_text())
    return golden


def golden_state_dict(golden: dict[str, Any]) -> dict[str, Tensor]:
    """Return the filled part of the official state dict, in the authors' key names."""
    # A sentence that names the entries by patterns such as *.attn.sfc_h.offset.
    unfilled = [word for word in golden.get("unfilled_buffers", "").split() if "*" in word]
    return {
        name: torch.from_numpy(fill(name, tuple(shape)))
        for name, shape, dtype in golden["state_dict"]
        if dtype.startswith("float") and not any(fnmatch(name, pattern) for pattern in unfilled)
    }


def build_golden_network(
    name: str, golden: dict[str, Any], folder: Path, wrapper: str | None, **overrides: Any
) -> Network:
    """Create model `name` and load the golden's weights from a file that looks like an official one.

    Entries that the golden does not fill (integers, constant buffers) take the values that the authors' constructor
    gives them; those are what this network's own constructor gives, so they are read back from it by official name.
    """
    network = create_model(name, **overrides)
    state = golden_state_dict(golden)
    prefix = "module." if wrapper == "model_state" else ""
    for key, shape, dtype in golden["state_dict"]:
        if key not in state:
            state[key] = unfilled_value(network, key, tuple(shape), dtype)
    content: Any = {prefix + key: value for key, value in state.items()}
    if wrapper:
        content = {wrapper: content, "epoch": 299}
    file = folder / f"{name}.pth"
    torch.save(content, file)
    load_checkpoint(network, file)
    return network


def unfilled_value(network: Network, key: str, shape: tuple[int, ...], dtype: str) -> Tensor:
    """Return the constructor's value of an official entry that is not filled."""
    own = network.state_dict()
    if key in own:
        return own[key]
    return torch.zeros(shape, dtype=getattr(torch, dtype))


def relative_error(actual: np.ndarray, expected: np.ndarray) -> float:
    """Return ||actual - expected|| / ||expected - mean(expected)||."""
    return float(np.linalg.norm(actual - expected) / np.linalg.norm(expected - expected.mean()))


def golden_error(actual: np.ndarray, golden: dict[str, Any]) -> float:
    """Return the relative error of an output; for maps, of which a golden lists figures alone, the largest of these."""
    expected = golden.get("logits_full", golden["logits"])
    if not isinstance(expected, dict):
        return relative_error(actual.ravel(), np.asarray(expected, dtype=np.float32).ravel())
    assert list(actual.shape) == expected["shape"]
    values = actual.astype(np.float64)
    std = expected["std"]
    samples = [values[tuple(index)] - value for index, value in expected["samples"]]
    return max(
        float(np.sqrt(np.mean(np.square(samples)))) / std,
        abs(values.mean() - expected["mean"]) / std,
        abs(values.std() - std) / std,
        abs(float(np.linalg.norm(values)) - expected["l2"]) / expected["l2"],
    )


def first_wrong_stage(network: Network, golden: dict[str, Any], x: Tensor) -> str:
    """Run the network and name the first module whose output differs from the golden's figures."""
    figures: dict[str, tuple[float, float]] = {}

    def record(stage: str) -> Any:
        def hook(_module: Any, _inputs: Any, output: Any) -> None:
            if isinstance(output, Tensor):
                figures[stage] = (float(output.mean()), float(output.norm()))

        return hook

    modules = dict(network.named_modules())
    handles = [modules[stage].register_forward_hook(record(stage)) for stage in golden["stages"] if stage in modules]
    with torch.inference_mode():
        network(x)
    for handle in handles:
        handle.remove()
    for stage, expected in golden["stages"].items():
        if stage in figures and abs(figures[stage][1] - expected["l2"]) > 1e-3 * expected["l2"]:
            return f"{stage}: l2 {figures[stage][1]:.6g}, golden {expected['l2']:.6g}"
    return "no stage differs"


def check_golden(
    name: str, path: str, folder: Path, wrapper: str | None, tolerance: float = TOLERANCE, **overrides: Any
) -> None:
    """Assert that model `name` reproduces the golden file: output, parameters and multiply-adds."""
    golden = read_golden(path)
    network = build_golden_network(name, golden, folder, wrapper, **overrides)
    shape = tuple(golden["input_shape"])
    x = torch.from_numpy(golden_input(shape))
    with torch.inference_mode():
        logits = network(x)
    error = golden_error(logits.numpy(), golden)
    assert error < tolerance, f"relative error {error:.2e}; {first_wrong_stage(network, golden, x)}"
    # An auxiliary head serves training alone and is not built.
    expected_parameters = golden["params"] - golden.get("params_auxiliary_head", 0)
    assert sum(parameter.numel() for parameter in network.parameters()) == expected_parameters
    gmacs = count_gmacs(network.to("meta"), shape[1:])
    assert abs(gmacs - golden["gmacs"]) <= 0.01 * golden["gmacs"], f"{gmacs:.4f} GMACs, golden {golden['gmacs']}"

"""What bench.gpu compiles and exports, on the CPU."""

from functools import partial
from pathlib import Path
from typing import Any

import onnx
import pytest
import torch

from bench.gpu import DTYPES, compiled, files_of
from export.graph import input_shape, served_network
from models import create_model


def test_every_network_is_compiled_and_each_as_one_graph(monkeypatch: pytest.MonkeyPatch) -> None:
    graphs: list[Any] = []

    def backend(graph: torch.fx.GraphModule, inputs: list[torch.Tensor]) -> Any:
        graphs.append(graph)
        return graph.forward

    monkeypatch.setattr(torch, "compile", partial(torch.compile, backend=backend))
    name = "morphmlp_tiny_shapes"
    views = torch.zeros((2, *input_shape(name)), dtype=torch.uint8)
    # torch compiles one function for eight networks, and then no more.
    for dtype in [*DTYPES.values()] * 3:
        served = served_network(create_model(name), dtype)
        with torch.inference_mode():
            assert torch.equal(compiled(served, views)(views), served(views))
    assert len(graphs) == 9


def test_files_have_the_graphs_that_are_exported(tmp_path: Path) -> None:
    files = files_of("uniformer_tiny_shapes", ("fp32", "bf16"), tmp_path)
    # ONNX Runtime, which refuses bf16, alone wants depthwise convolutions over time as ones over space.
    assert 5 in depthwise_ranks(files["bf16"])
    assert 5 not in depthwise_ranks(files["fp32"])


def depthwise_ranks(file: Path) -> set[int]:
    """Return of how many axes the weights of the grouped convolutions are."""
    graph = onnx.load(file).graph
    ranks = {tensor.name: len(tensor.dims) for tensor in graph.initializer}
    grouped = [node for node in graph.node if any(field.name == "group" and field.i > 1 for field in node.attribute)]
    return {ranks[node.input[1]] for node in grouped}

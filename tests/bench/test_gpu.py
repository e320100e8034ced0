"""What bench.gpu compiles, on the CPU."""

from functools import partial
from typing import Any

import pytest
import torch

from bench.gpu import DTYPES, compiled
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

"""What bench.gpu compiles, exports and loads, on the CPU."""

from functools import partial
from pathlib import Path
from typing import Any
from unittest.mock import Mock

import onnx
import pytest
import torch

from bench.gpu import DTYPES, compiled, files_of, gpu_runtime, measure
from export.graph import input_shape, served_network
from models import create_model
from service.manifest import PrecisionName
from service.runtimes.kinds import KINDS
from service.runtimes.options import GpuOptions


def test_network_is_compiled_as_one_graph_in_every_precision(monkeypatch: pytest.MonkeyPatch) -> None:
    graphs: list[Any] = []

    def backend(graph: torch.fx.GraphModule, inputs: list[torch.Tensor]) -> Any:
        graphs.append(graph)
        return graph.forward

    monkeypatch.setattr(torch, "compile", partial(torch.compile, backend=backend))
    name = "morphmlp_tiny_shapes"
    views = torch.zeros((2, *input_shape(name)), dtype=torch.uint8)
    for dtype in DTYPES.values():
        served = served_network(create_model(name), dtype)
        with torch.inference_mode():
            assert torch.equal(compiled(served, views)(views), served(views))
    assert len(graphs) == len(DTYPES)


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> dict[PrecisionName, Path]:
    return files_of("uniformer_tiny_shapes", ("fp32", "bf16"), tmp_path_factory.mktemp("files"))


def test_files_have_the_graphs_that_are_exported(files: dict[PrecisionName, Path]) -> None:
    # ONNX Runtime, which refuses bf16, alone wants depthwise convolutions over time as ones over space.
    assert 5 in depthwise_ranks(files["bf16"])
    assert 5 not in depthwise_ranks(files["fp32"])


def depthwise_ranks(file: Path) -> set[int]:
    """Return of how many axes the weights of the grouped convolutions are."""
    graph = onnx.load(file).graph
    ranks = {tensor.name: len(tensor.dims) for tensor in graph.initializer}
    grouped = [node for node in graph.node if any(field.name == "group" and field.i > 1 for field in node.attribute)]
    return {ranks[node.input[1]] for node in grouped}


def test_runtimes_on_the_gpu_get_files_of_every_precision(
    files: dict[PrecisionName, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    opened = Mock()
    monkeypatch.setitem(KINDS, "tensorrt", opened)
    for precision, file in files.items():
        gpu_runtime("tensorrt", file, precision, (1, 2), tmp_path)
        options = GpuOptions((1, 2), ((8, 96, 96, 3),) * 3, 0, tmp_path)
        opened.open.assert_called_with(file, precision, 1, options)


def test_what_does_not_run_is_no_success(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    # Nothing that is measured runs without a GPU, and what finds one is not to be asked.
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    failures = measure("uniformer_tiny_shapes", 1, tmp_path)
    assert {failure.split(": ")[0] for failure in failures} >= {
        f"uniformer_tiny_shapes, batch 1, {way}, {precision}" for way in ("torch", "cuda") for precision in DTYPES
    }
    assert all("does not run" in failure for failure in failures)
    assert not capsys.readouterr().out

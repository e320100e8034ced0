"""The graph that is served: uint8 frames in, logits out, with normalisation, channel order and layout inside."""

from __future__ import annotations

import warnings
from pathlib import Path

import onnx
import torch
from torch import Tensor, nn
from torch.export import Dim

from export.errors import ExportError
from models import Network, model_entry
from models.weights import Preprocessing

OPSET = 20
INPUT_NAME, OUTPUT_NAME = "frames", "logits"


class ServedNetwork(nn.Module):
    """A network behind its preprocessing.

    Input: uint8 RGB, (B, T, H, W, 3) for video, (B, H, W, 3) for images. Output: float32 logits (B, classes).
    """

    scale: Tensor
    shift: Tensor

    def __init__(self, network: nn.Module, preprocessing: Preprocessing) -> None:
        super().__init__()
        self.network = network
        self.is_bgr = preprocessing.channels == "bgr"
        mean, std = torch.tensor(preprocessing.mean), torch.tensor(preprocessing.std)
        # (x / 255 - mean) / std as one multiplication and one addition.
        self.register_buffer("scale", 1 / (255 * std))
        self.register_buffer("shift", -mean / std)

    def forward(self, frames: Tensor) -> Tensor:
        # The cast comes first: TensorRT takes uint8 input into a Cast and nothing else.
        x = frames.float()
        if self.is_bgr:
            x = x.flip(-1)
        x = x * self.scale + self.shift
        logits: Tensor = self.network(x.movedim(-1, 1))  # (B, ..., 3) -> (B, 3, ...)
        return logits


def input_shape(name: str) -> tuple[int, ...]:
    """Return the shape of one view of model `name`: (T, H, W, 3) for video, (H, W, 3) for images."""
    weights = model_entry(name).weights
    height, width = weights.preprocessing.crop
    if weights.task == "video_classification":
        return (weights.sampling.num_frames, height, width, 3)
    return (height, width, 3)


def served_network(network: Network) -> ServedNetwork:
    """Return a registered network behind the preprocessing of its weights entry, in eval mode."""
    return ServedNetwork(network, model_entry(network.name).weights.preprocessing).eval()


def export_onnx(served: ServedNetwork, view_shape: tuple[int, ...], max_batch_size: int, file: Path) -> None:
    """Write the ONNX file of a served network; only the batch axis is dynamic.

    Raises:
        ExportError: torch cannot export the network, or the exported batch axis is fixed.
    """
    # Two views: with one, the exporter may take the batch axis for a constant.
    example = torch.zeros((2, *view_shape), dtype=torch.uint8)
    with warnings.catch_warnings():
        # The exporter warns of its own internals, which nobody who exports can act upon.
        warnings.simplefilter("ignore")
        torch.onnx.export(
            served,
            (example,),
            file,
            dynamo=True,
            opset_version=OPSET,
            input_names=[INPUT_NAME],
            output_names=[OUTPUT_NAME],
            dynamic_shapes=({0: Dim("batch", min=1, max=max_batch_size)},),
            external_data=False,
            verbose=False,
        )
    model = onnx.load(file)
    for value in (model.graph.input[0], model.graph.output[0]):
        if not value.type.tensor_type.shape.dim[0].dim_param:
            raise ExportError(f"the batch axis of {value.name} came out fixed")
    _forget_origin(model)
    onnx.save(model, file)


def _forget_origin(model: onnx.ModelProto) -> None:
    """Drop the exporter's notes on each node: they name source files of the machine that exported."""
    graph = model.graph
    for part in (model, graph, *graph.node, *graph.input, *graph.output, *graph.value_info, *graph.initializer):
        del part.metadata_props[:]
        part.doc_string = ""

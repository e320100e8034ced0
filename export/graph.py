"""The graph that is served: uint8 frames in, with normalisation, channel order and layout inside."""

from __future__ import annotations

import logging
import warnings
from pathlib import Path

import onnx
import torch
from torch import Tensor, nn
from torch.export import Dim

from export.errors import ExportError
from export.half_precision import converted, sensitive_in_float32
from export.rewrites import RuntimeName, rewritten
from models import Network, model_entry
from models.segmentation import Segmentor, resize
from models.weights import Preprocessing, WholePicture
from service.manifest.shapes import SIDE_MULTIPLE, SMALLEST_SIDE

logger = logging.getLogger(__name__)

OPSET = 20
# The first operator set in which convolutions take bfloat16.
BFLOAT16_OPSET = 22
INPUT_NAME, LOGITS_NAME, MASK_NAME = "frames", "logits", "mask"
# Height and width of the example that a graph of any size is traced with. Small maps, those of one window or one cell
# a side, would make the exporter take such a count for a constant.
_TRACED_SIDES = (1120, 1632)
_MOST_CELLS = 256  # of SIDE_MULTIPLE x SIDE_MULTIPLE pixels, a side


class ServedNetwork(nn.Module):
    """A classifier behind its preprocessing.

    Input: uint8 RGB, (B, T, H, W, 3) for video, (B, H, W, 3) for images. Output: float32 logits (B, classes).
    """

    output_names: tuple[str, ...] = (LOGITS_NAME,)
    scale: Tensor
    shift: Tensor

    def __init__(
        self, network: nn.Module, preprocessing: Preprocessing | WholePicture, dtype: torch.dtype = torch.float32
    ) -> None:
        super().__init__()
        self.network = network
        self.dtype = dtype
        self.is_bgr = preprocessing.channels == "bgr"
        mean, std = torch.tensor(preprocessing.mean), torch.tensor(preprocessing.std)
        # (x / 255 - mean) / std as one multiplication and one addition.
        self.register_buffer("scale", 1 / (255 * std))
        self.register_buffer("shift", -mean / std)

    def normalised(self, frames: Tensor) -> Tensor:
        """Return the network's input: uint8 (B, ..., 3) -> (B, 3, ...)."""
        # The cast comes first: TensorRT takes uint8 input into a Cast and nothing else. The channels move before the
        # arithmetic: with three of them last, ONNX Runtime would broadcast in steps of three.
        x = frames.float().movedim(-1, 1)
        if self.is_bgr:
            x = x.flip(1)
        of_channel = (-1, *(1,) * (x.ndim - 2))
        return (x * self.scale.reshape(of_channel) + self.shift.reshape(of_channel)).to(self.dtype)

    def forward(self, frames: Tensor) -> Tensor | tuple[Tensor, Tensor]:
        with sensitive_in_float32(self.dtype):
            logits: Tensor = self.network(self.normalised(frames))
        return logits.float()

    def dynamic_axes(self, max_batch_size: int) -> dict[int, Dim]:
        """Return the axes of the input whose length the graph leaves open."""
        # torch takes an axis of one possible length for no axis at all; the graph does not tell the two apart.
        return {0: Dim("batch", min=1, max=max(2, max_batch_size))}


class ServedSegmentor(ServedNetwork):
    """A segmentation network behind its preprocessing, for any size of which both sides are multiples of 32, from 64.

    Input: uint8 RGB (B, H, W, 3). Output: the class of each pixel, uint8 (B, H, W), and float32 logits
    (B, classes, H/4, W/4): those that were enlarged to find the classes. At full size they would weigh hundreds of
    times what the mask does, and nothing is added by the enlargement.
    """

    output_names = (MASK_NAME, LOGITS_NAME)
    network: Segmentor

    def forward(self, frames: Tensor) -> tuple[Tensor, Tensor]:
        with sensitive_in_float32(self.dtype):
            logits = self.network.coarse_logits(self.normalised(frames)).float()
        mask = resize(logits, frames.shape[1:3]).argmax(dim=1).to(torch.uint8)
        return mask, logits

    def dynamic_axes(self, max_batch_size: int) -> dict[int, Dim]:
        rows, columns = (Dim(name, min=SMALLEST_SIDE // SIDE_MULTIPLE, max=_MOST_CELLS) for name in ("rows", "columns"))
        return {**super().dynamic_axes(max_batch_size), 1: SIDE_MULTIPLE * rows, 2: SIDE_MULTIPLE * columns}


def input_shape(name: str) -> tuple[int, ...]:
    """Return the shape of one view of model `name`: (T, H, W, 3) for video, (H, W, 3) for images.

    For segmentation it is the shape of a window; the graph takes others as well.
    """
    weights = model_entry(name).weights
    height, width = weights.preprocessing.input_size
    if weights.task == "video_classification":
        return (weights.sampling.num_frames, height, width, 3)
    return (height, width, 3)


def served_network(network: Network, dtype: torch.dtype = torch.float32) -> ServedNetwork:
    """Return a registered network behind the preprocessing of its weights entry, in eval mode.

    With another `dtype` than float32 it is a copy of the network that computes in that type, but for normalisation,
    LayerNorm, softmax and the layer that gives the logits, which are float32 all the same.

    Raises:
        ExportError: A weight is too large for the type.
    """
    if dtype != torch.float32:
        network = converted(network, dtype)
    wrapper = ServedSegmentor if isinstance(network, Segmentor) else ServedNetwork
    return wrapper(network, model_entry(network.name).weights.preprocessing, dtype).eval()


def export_onnx(
    served: ServedNetwork,
    view_shape: tuple[int, ...],
    max_batch_size: int,
    file: Path,
    runtime: RuntimeName = "onnxruntime",
) -> None:
    """Write the ONNX file of a served network; only the batch axis, and a segmentor's height and width, are dynamic.

    Every runtime runs the graph; it has the shape that is fastest on `runtime`.

    Raises:
        ExportError: torch cannot export the network, or a dynamic axis came out fixed.
    """
    axes = served.dynamic_axes(max_batch_size)
    if 1 in axes:
        view_shape = (*_TRACED_SIDES, 3)
    # Two views: with one, the exporter may take the batch axis for a constant.
    example = torch.zeros((2, *view_shape), dtype=torch.uint8)
    _trace(served, example, axes, file)
    model = onnx.load(file)
    _check_dynamic(model.graph.input[0], list(axes))
    for output in model.graph.output:
        _check_dynamic(output, [0])
    model = rewritten(model, runtime)
    _forget_origin(model)
    onnx.save(model, file)


def _trace(served: ServedNetwork, example: Tensor, axes: dict[int, Dim], file: Path) -> None:
    """Write what torch makes of the network.

    Raises:
        ExportError: torch cannot export it; with its reason, after its report on standard error.
    """
    try:
        with warnings.catch_warnings():
            # The exporter warns of its own internals, which nobody who exports can act upon.
            warnings.simplefilter("ignore")
            torch.onnx.export(
                served,
                (example,),
                file,
                dynamo=True,
                opset_version=BFLOAT16_OPSET if served.dtype == torch.bfloat16 else OPSET,
                input_names=[INPUT_NAME],
                output_names=list(served.output_names),
                dynamic_shapes=(axes,),
                external_data=False,
                verbose=False,
            )
    except torch.onnx.OnnxExporterError as error:
        logger.exception("torch's report on what it cannot export")
        # torch wraps the reason in advice for its developers.
        reason = str(error.__cause__ or error).strip().partition("\n")[0]
        raise ExportError(f"torch cannot export the network: {reason}") from error


def _check_dynamic(value: onnx.ValueInfoProto, axes: list[int]) -> None:
    for axis in axes:
        if not value.type.tensor_type.shape.dim[axis].dim_param:
            raise ExportError(f"axis {axis} of {value.name} came out fixed")


def _forget_origin(model: onnx.ModelProto) -> None:
    """Drop the exporter's notes on each node: they name source files of the machine that exported."""
    graph = model.graph
    for part in (model, graph, *graph.node, *graph.input, *graph.output, *graph.value_info, *graph.initializer):
        del part.metadata_props[:]
        part.doc_string = ""

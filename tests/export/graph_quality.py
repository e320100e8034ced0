"""What an exported graph may consist of: counts that follow from the architecture, not from the exporter."""

from __future__ import annotations

import copy
from collections import Counter
from typing import Any

import onnx
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from export.graph import OPSET
from models import Network
from models.cyclemlp import CycleMLP
from models.mlp3d import MLP3D, assign_blocks
from models.morphmlp import MorphMLP
from models.mvit import ConvPool, MaxPool, MViT
from models.pose import PoseNetwork
from models.segmentation import Segmentor
from models.smlpnet import SMLPNet
from models.uniformer import UniFormer, UniFormerConfig
from models.uniformer_light import DenseUniFormerLight, UniFormerLight

# One ONNX operator for one call of torch's.
COUNTERPARTS = {
    "Conv": "convolution",
    "LayerNormalization": "native_layer_norm",
    "Gelu": "gelu",
    "Softmax": "_softmax",
}
# Signs of shapes that are computed where they could be known.
JUGGLING = {"ConstantOfShape", "Size", "NonZero", "Where", "If", "Loop", "SequenceAt", "Identity", "Dropout"}


class _Calls(TorchDispatchMode):
    """Counts torch's own operators, by name."""

    def __init__(self) -> None:
        super().__init__()
        self.counts: Counter[str] = Counter()

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        self.counts[func.overloadpacket.__name__] += 1
        return func(*args, **(kwargs or {}))


def torch_calls(network: Network, view_shape: tuple[int, ...]) -> Counter[str]:
    """Return how often one forward on a view (..., H, W, 3) calls each of torch's operators."""
    view = torch.empty(1, 3, *view_shape[:-1], device="meta")
    with torch.no_grad(), _Calls() as calls:
        copy.deepcopy(network).to("meta")(view)
    return calls.counts


def expected_transposes(network: Network) -> int | None:
    """Return how often the architecture moves axes, if it is said below; 1 is the input's, whose channels come last."""
    config = network.config
    depths = getattr(config, "depths", ())
    match network:
        case UniFormer():
            # A global block: map to tokens and back, three of queries, keys and values to heads, one back. A patch
            # embedding normalises with the channels last. The head averages tokens.
            embeddings = 2 * 4 if config.stem == "patch" else 0
            return 1 + embeddings + 6 * sum(depths[2:]) + 1
        case UniFormerLight():
            # As above; the stem has no LayerNorm, and the head averages the map.
            return 1 + 2 * 3 + 6 * sum(depths[2:])
        case MViT():
            # Patches to tokens; heads as above; every pool wants a map of the tokens, and back.
            pools = sum(isinstance(module, ConvPool | MaxPool) for module in network.modules())
            return 1 + 1 + 4 * sum(depths) + 2 * pools
        case SMLPNet():
            # Each block's depthwise convolution, the one before each stage and the last BatchNorm want channels first;
            # all else has them last.
            return 1 + 2 * sum(depths) + 2 * 4
        case CycleMLP():
            # Shifts and downsampling want channels first, all else has them last.
            return 1 + 1 + 3 * sum(depths) + 2 * 3
        case MLP3D():
            # As CycleMLP. Slots of a group come to lie beside each other; windows are taken apart again.
            kinds = Counter(kind for kind, size in assign_blocks(config.gtm, sum(depths)) if size > 1)
            slots = 2 * kinds.total() - kinds["shift_token"]
            return 1 + 1 + 3 * sum(depths) + 2 * 3 + slots
        case MorphMLP():
            # Chunks are gathered and put back: two pathways, one in the last stage, and one over time. Where a column
            # is no whole number of chunks the plane is turned as well. Stem and downsampling as above.
            pathways = 2 * sum(depths[:3]) + depths[3] + (sum(depths) if config.is_video else 0)
            columns = [config.input_size // reduction for reduction in (4, 8, 16)]
            turned = sum(d for d, c, chunk in zip(depths, columns, config.chunk_lengths, strict=False) if c % chunk)
            return 1 + 1 + 2 * pathways + 2 * turned + 2 * 3
        case Segmentor() | PoseNetwork() if isinstance(config.backbone, UniFormerConfig):
            # As UniFormer, without its head, whose last block leaves the channels where they are wanted. A block with
            # windows gathers them and takes them apart again.
            backbone, depths = config.backbone, config.backbone.depths
            embeddings = 2 * 4 if backbone.stem == "patch" else 0
            windowed = sum(backbone.is_windowed(2, block) for block in range(depths[2]))
            # A LayerNorm for each of the four stages that a head for masks reads.
            norms = 2 * 3 if isinstance(network, Segmentor) else 0
            return 1 + embeddings + 6 * sum(depths[2:]) + 2 * windowed + norms
    return None


def expected_batch_norms(network: Network) -> int:
    """Return how many BatchNorms cannot become part of a convolution."""
    match network:
        case UniFormer() | UniFormerLight():
            return 1  # the last one, before the average
        case SMLPNet():
            return sum(network.config.depths) + 1  # an activation follows that of each block's local half
        case Segmentor() if getattr(network.config.backbone, "stem", "patch") == "conv":
            return 2  # of stages 3 and 4: their global blocks read the size of the map before it
    return 0


def expected_shapes(network: Network) -> int:
    """Return how often the batch size must be asked for in a network of fixed size."""
    match network:
        case MViT():
            return 1  # one class token a view
        case UniFormerLight():
            return sum(network.config.depths[2:])  # one class token a view, and rows of the batch in hourglass blocks
    return 0


def check_graph(network: Network, view_shape: tuple[int, ...], model: onnx.ModelProto) -> None:
    """Assert that the graph of a network is as small as its architecture allows."""
    graph, counts = model.graph, Counter(node.op_type for node in model.graph.node)
    assert [(opset.domain, opset.version) for opset in model.opset_import] == [("", OPSET)]
    assert not any(tensor.external_data for tensor in graph.initializer)
    calls = torch_calls(network, view_shape)
    if any(isinstance(module, UniFormerLight | DenseUniFormerLight) for module in network.modules()):
        calls["_softmax"] -= 1  # no block comes after the last one's scores
    if isinstance(network, PoseNetwork):
        calls["native_layer_norm"] -= 3  # its head looks at the last of the four normalised stages
    # torch calls both a convolution.
    counts["Conv"] += counts["ConvTranspose"]
    for operator, name in COUNTERPARTS.items():
        assert counts[operator] == calls[name], operator
    assert counts["BatchNormalization"] == expected_batch_norms(network)
    assert expected_transposes(network) in (None, counts["Transpose"])
    # Between tokens and maps axes move at the map, where OpenVINO need not move anything in memory.
    orders = [list(attribute.ints) for node in graph.node for attribute in node.attribute if attribute.name == "perm"]
    assert [0, 2, 1] not in orders
    inferred = onnx.shape_inference.infer_shapes(model).graph
    types = {value.name: value.type.tensor_type for value in (*inferred.value_info, *inferred.output)}
    ranks = {name: len(tensor.shape.dim) for name, tensor in types.items() if tensor.HasField("shape")}
    assert {output for node in graph.node for output in node.output if output} <= ranks.keys(), "of unknown rank"
    assert max(ranks.values()) <= 5
    if not isinstance(network, Segmentor):
        assert not JUGGLING & counts.keys()
        assert counts["Shape"] == expected_shapes(network)
        constants = {tensor.name for tensor in graph.initializer}
        assert [node.name for node in graph.node if set(node.input) <= constants] == []

"""sMLPNet: depthwise convolutions and fully-connected layers along single rows and columns; images of one size.

Paper: Sparse MLP for Image Recognition: Is Self-Attention Really Necessary? (AAAI 2022, arXiv 2109.05422).
Official code: microsoft/SPACH@dcede1e86c9e183d4a734c67f8528d291d1c29d1 (REPO below); attribute names follow its
checkpoints, and where paper and code differ (order of the concatenation, activations, names of the axes) the code is
followed.

Layouts: maps (B, C, H, W) where convolutions want them, else channels last, planes (B, H, W, C) or tokens (B, N, C).
The row and column layers hold one weight a coordinate, so a network takes exactly the size that it was built for;
`resize_projections` starts a fine-tuning at another size.
"""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass, replace
from itertools import islice

import torch
from torch import Tensor, nn

from models.checks import check_minimum, check_stages
from models.layers import to_map, to_tokens
from models.registry import Network, fitting_models, list_models, register_variant
from models.weights import Published, imagenet_weights, outlines_weights

# ---------------------------------------------------------------------------------------------------------------------
# Configuration


@dataclass(frozen=True)
class SMLPNetConfig:
    """Architecture of one sMLPNet.

    Attributes:
        num_classes: Outputs of the head.
        depths: Blocks in each of the four stages.
        embed_dims: Channels of each stage.
        mlp_ratio: Hidden width of the channel mixing, in multiples of the channels; alpha in the paper.
        input_size: The one input size, height and width or a number for both; at least 32.
    """

    num_classes: int
    depths: tuple[int, int, int, int]
    embed_dims: tuple[int, int, int, int]
    mlp_ratio: int = 3
    input_size: int | tuple[int, int] = 224

    @property
    def input_shape(self) -> tuple[int, int]:
        """Height and width of the input."""
        return (self.input_size, self.input_size) if isinstance(self.input_size, int) else self.input_size

    def map_shape(self, stage: int) -> tuple[int, int]:
        """Return height and width of the map in stage 0 to 3: 1/4 of the input's, then halves, rounded down."""
        height, width = self.input_shape
        return height >> stage + 2, width >> stage + 2


def check_config(config: SMLPNetConfig) -> None:
    """Refuse values that no network can be built from or run with.

    Raises:
        ValueError: Too few or too small values.
    """
    check_stages(config, "depths", "embed_dims")
    check_minimum(config, 0, "depths")
    check_minimum(config, 1, "embed_dims", "mlp_ratio")
    if min(config.input_shape) < 32:
        raise ValueError(f"input_size={config.input_size} is less than 32 pixels and leaves nothing for the last stage")


# ---------------------------------------------------------------------------------------------------------------------
# Blocks


class DepthwiseConv(nn.Module):
    """Local half of the token mixing: BatchNorm, GELU, depthwise 3x3 convolution on a map."""

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.BN = nn.BatchNorm2d(dim)
        self.act = nn.GELU()
        self.Conv = nn.Conv2d(dim, dim, 3, padding=1, groups=dim, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.Conv(self.act(self.BN(x)))
        return out


class AxisFC(nn.Module):
    """Weights of a linear layer over the `size` coordinates of one axis of a plane.

    The weight has the shape of a 1x1 convolution's because that is what the authors use, between two permutations.
    Matrix products on the plane itself give the same numbers without them.
    """

    def __init__(self, size: int) -> None:
        super().__init__()
        bound = size**-0.5
        self.weight = nn.Parameter(torch.empty(size, size, 1, 1).uniform_(-bound, bound))
        self.bias = nn.Parameter(torch.empty(size).uniform_(-bound, bound))

    def forward(self, x: Tensor) -> Tensor:
        """Mix the last axis but one: (..., size, C) -> (..., size, C)."""
        return self.weight.flatten(1) @ x + self.bias[:, None]


class WidthFC(AxisFC):
    """Mixes the columns, the same in every row and channel: (B, H, W, C) -> (B, H, W, C)."""


class HeightFC(AxisFC):
    """Mixes the rows, the same in every column and channel: (B, H, W, C) -> (B, H, W, C)."""

    def forward(self, x: Tensor) -> Tensor:
        rows = super().forward(x.flatten(2))  # (B, H, W, C) -> (B, H, W * C)
        return torch.unflatten(rows, 2, x.shape[2:])


class SparseMlp(nn.Module):
    """Global half of the token mixing (paper figure 3): a map (B, C, H, W) in, tokens (B, H * W, C) out.

    The authors' attribute names are misleading: proj_h mixes along the width and proh_w along the height.
    """

    def __init__(self, dim: int, height: int, width: int) -> None:
        super().__init__()
        self.BN = nn.BatchNorm2d(dim)
        self.act = nn.GELU()
        self.proj_h = WidthFC(width)
        self.proh_w = HeightFC(height)
        self.fuse = nn.Conv2d(dim * 3, dim, 1, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        plane = self.act(self.BN(x)).movedim(1, -1)  # (B, C, H, W) -> (B, H, W, C)
        mixed = torch.cat([plane, self.proj_h(plane), self.proh_w(plane)], dim=-1)
        return nn.functional.linear(mixed.flatten(1, 2), self.fuse.weight.flatten(1))


class FeedForward(nn.Module):
    """Linear, exact GELU, Linear on the last axis: (..., C) -> (..., C)."""

    def __init__(self, dim: int, hidden_dim: int) -> None:
        super().__init__()
        # The authors' dropout of rate 0 stood at index 2.
        self.net = nn.Sequential(nn.Linear(dim, hidden_dim), nn.GELU(), nn.Identity(), nn.Linear(hidden_dim, dim))

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.net(x)
        return out


def token_mixing(dim: int, height: int, width: int) -> nn.Sequential:
    """Return the token mixing of one block (paper figure 2b): a map in, its new tokens out."""
    local = nn.Sequential(OrderedDict(conv_merge=DepthwiseConv(dim)))
    return nn.Sequential(local, SparseMlp(dim, height, width))


def channel_mixing(dim: int, mlp_ratio: int) -> nn.Sequential:
    """Return the channel mixing of one block: tokens (B, N, C) in, the same out."""
    # The authors' first entry moves axes, and so does a fourth; the Identity keeps the numbers of the others.
    return nn.Sequential(nn.Identity(), nn.LayerNorm(dim), FeedForward(dim, dim * mlp_ratio))


# ---------------------------------------------------------------------------------------------------------------------
# Network


class SMLPNet(Network):
    """sMLPNet classifier.

    Input: float32, normalised, (B, 3, H, W) of exactly `input_size`. Output: logits (B, num_classes).
    """

    config: SMLPNetConfig

    def __init__(self, config: SMLPNetConfig) -> None:
        super().__init__()
        check_config(config)
        self.config = config
        dims = config.embed_dims
        stages = [stage for stage, depth in enumerate(config.depths) for _ in range(depth)]
        convs = [
            nn.Conv2d(3, dims[0], 4, stride=4, bias=False),
            *(nn.Conv2d(dims[i], dims[i + 1], 2, stride=2, bias=False) for i in range(3)),
        ]
        self.to_patch_embedding = nn.ModuleList(nn.Sequential(conv) for conv in convs)
        self.token_mix = nn.ModuleList(token_mixing(dims[stage], *config.map_shape(stage)) for stage in stages)
        self.channel_mix = nn.ModuleList(channel_mixing(dims[stage], config.mlp_ratio) for stage in stages)
        self.batch_norm = nn.BatchNorm2d(dims[3])
        self.mlp_head = nn.Sequential(nn.Linear(dims[3], config.num_classes))

    def remap_checkpoint(self, state_dict: dict[str, Tensor]) -> dict[str, Tensor]:
        """Return the state dict as it is.

        Raises:
            ValueError: Its row and column layers belong to another input size.
        """
        key = "token_mix.0.1.proj_h.weight"
        wanted = self.token_mix[0].state_dict()["1.proj_h.weight"].shape
        if key in state_dict and state_dict[key].shape != wanted:
            raise ValueError(
                f"its first map is {state_dict[key].shape[0]} wide, and with input_size={self.config.input_size} it is "
                f"{wanted[0]}; models.smlpnet.resize_projections turns the weights into a start for fine-tuning"
            )
        return state_dict

    def forward_features(self, x: Tensor) -> Tensor:
        """Return the last stage's normalised map, (B, C, H/32, W/32).

        Raises:
            ValueError: The image has not the network's one size.
        """
        height, width = self.config.input_shape
        if x.shape[-2:] != (height, width):
            raise ValueError(
                f"the network takes {height}x{width} images alone and got {x.shape[-2]}x{x.shape[-1]}: resize or crop "
                f"the image, or build the network with another input_size and fine-tune it there"
            )
        blocks = zip(self.token_mix, self.channel_mix, strict=True)
        for embed, depth in zip(self.to_patch_embedding, self.config.depths, strict=True):
            x = embed(x)
            size, tokens = x.shape[2:], to_tokens(x)
            for token_mix, channel_mix in islice(blocks, depth):
                tokens = tokens + token_mix(to_map(tokens, size))
                tokens = tokens + channel_mix(tokens)
            x = to_map(tokens, size)
        out: Tensor = self.batch_norm(x)
        return out

    def forward_head(self, features: Tensor) -> Tensor:
        """Return logits (B, num_classes) of the map of `forward_features`."""
        logits: Tensor = self.mlp_head(features.mean(dim=(2, 3)))
        return logits

    def forward(self, x: Tensor) -> Tensor:
        return self.forward_head(self.forward_features(x))


def resize_projections(state_dict: dict[str, Tensor], network: SMLPNet) -> dict[str, Tensor]:
    """Turn weights of one input size into a start for fine-tuning `network`, which has another.

    Each row or column layer is read as an operator on a sampled line: its matrix is resized over both axes and scaled
    by old / new size, so that the sums over a line stay what they were, and its bias is resized as a signal. Smooth
    operators keep their meaning; trained ones need not be smooth, so the result is meant to be trained further, and no
    accuracy is claimed for it as it is. A head for other classes is not taken over: the network's own is.

    Args:
        state_dict: Weights of the same variant at any input size (`models.checkpoint.read_checkpoint` reads a file).
        network: Built with `create_model(name, input_size=...)`; gives the wanted shapes and is not changed.

    Returns:
        A new state dict for `network.load_state_dict`; tensors that fit already are taken over as they are.

    Raises:
        ValueError: The weights are of another variant.
    """
    wanted = network.state_dict()
    _check_variant(state_dict, network)
    resized = dict(state_dict)
    for key, tensor in state_dict.items():
        if _is_of_head(key) and tensor.shape != wanted[key].shape:
            resized[key] = wanted[key]
        if not _is_of_line(key):
            continue
        old, new = tensor.shape[0], wanted[key].shape[0]
        if old == new:
            continue
        if key.endswith("weight"):
            matrix = tensor.reshape(1, 1, old, old)  # (n, n, 1, 1) -> (1, 1, n, n)
            matrix = nn.functional.interpolate(matrix, size=(new, new), mode="bicubic", align_corners=False) * (
                old / new
            )
            resized[key] = matrix.reshape(new, new, 1, 1)  # (1, 1, N, N) -> (N, N, 1, 1)
        else:
            line = nn.functional.interpolate(tensor.reshape(1, 1, old), size=new, mode="linear", align_corners=False)
            resized[key] = line.reshape(new)  # (1, 1, N) -> (N)
    return resized


def _is_of_line(key: str) -> bool:
    """Whether an entry is of a row or column layer, and so of the shape that the input size gives it."""
    return ".proj_h." in key or ".proh_w." in key


def _is_of_head(key: str) -> bool:
    return key.startswith("mlp_head.")


def _check_variant(state_dict: dict[str, Tensor], network: SMLPNet) -> None:
    """Refuse weights that differ from the network's in more than row and column layers and the head."""
    wanted = network.state_dict()
    is_alike = wanted.keys() == state_dict.keys() and all(
        _is_of_line(key) or _is_of_head(key) or tensor.shape == wanted[key].shape for key, tensor in state_dict.items()
    )
    if not is_alike:
        given = " or ".join(fitting_models(list_models(family="smlpnet"), state_dict)) or "another network"
        raise ValueError(
            f"the weights are of {given}, and {network.name or type(network).__name__} takes those of its own variant "
            "alone, at any input size: give these, or build the variant that the weights are of"
        )


# ---------------------------------------------------------------------------------------------------------------------
# Variants: architectures

TINY = SMLPNetConfig(num_classes=1000, depths=(2, 8, 14, 2), embed_dims=(80, 160, 320, 640))
SMALL = SMLPNetConfig(num_classes=1000, depths=(2, 10, 24, 2), embed_dims=(96, 192, 384, 768))
BASE = SMLPNetConfig(num_classes=1000, depths=(2, 10, 24, 2), embed_dims=(112, 224, 448, 896))
# Sized for single frames of the generated clips of demo/.
TINY_SHAPES = SMLPNetConfig(num_classes=5, depths=(1, 2, 3, 1), embed_dims=(32, 64, 112, 144), input_size=64)

# ---------------------------------------------------------------------------------------------------------------------
# Variants: weights
# Preprocessing: REPO datasets.py and main.py; figures: the paper's table 6.

OFFICIAL = "release v1.0 of github.com/microsoft/SPACH"
UNRELEASED = "not published; github.com/microsoft/SPACH has weights of S and B only"
LICENCE = "code under the MIT licence (microsoft/SPACH); weights as released by the authors"


def _register(name: str, config: SMLPNetConfig, published: Published, checkpoint: str | None) -> None:
    origin = OFFICIAL if checkpoint else UNRELEASED
    weights = imagenet_weights(224, published, checkpoint=checkpoint, origin=origin, licence=LICENCE)
    register_variant(name, SMLPNet, config, weights)


def _register_images() -> None:
    table = "paper, table 6"
    _register("smlpnet_t_star_in1k", replace(TINY, mlp_ratio=2), Published(19.2, 4.0, 81.3, table), None)
    _register("smlpnet_t_in1k", TINY, Published(24.1, 5.0, 81.9, table), None)
    _register("smlpnet_s_in1k", SMALL, Published(48.6, 10.3, 83.1, table), "smlp_s.pth")
    _register("smlpnet_b_in1k", BASE, Published(65.9, 14.0, 83.4, table), "smlp_b.pth")


_register_images()
register_variant("smlpnet_tiny_shapes", SMLPNet, TINY_SHAPES, outlines_weights("smlpnet_tiny_shapes", 64))

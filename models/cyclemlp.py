"""CycleMLP: an image network of linear layers that read each channel at a position of its own.

Paper: CycleMLP: A MLP-like Architecture for Dense Prediction (arXiv 2107.10224).
Official code: ShoufaChen/CycleMLP@4e062a03e875d8dc4fbdd5dec96a918494705d38 (REPO below); attribute names follow its
checkpoints.
MLP-3D (models/mlp3d.py) grows from it and shares the layers below.

Layouts: input (B, 3, H, W); between blocks planes with channels last, (B, H, W, C); inside them tokens, (B, N, C), but
for the shifts, which want maps with channels first, (B, C, H, W).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn.functional import conv2d, linear, one_hot

from models.checks import check_minimum, check_stages
from models.layers import Mlp, to_map, to_tokens
from models.registry import Network, register_variant
from models.weights import Published, imagenet_weights

# ---------------------------------------------------------------------------------------------------------------------
# Configuration


@dataclass(frozen=True)
class CycleMLPConfig:
    """Architecture of one CycleMLP.

    Attributes:
        num_classes: Outputs of the head.
        depths: Blocks in each of the four stages.
        embed_dims: Channels of each stage.
        mlp_ratios: Hidden width of each stage's feed-forward part, in multiples of the channels.
        input_size: Height and width of the input the weights were trained at; the network takes any size.
    """

    num_classes: int
    depths: tuple[int, int, int, int]
    embed_dims: tuple[int, int, int, int] = (64, 128, 320, 512)
    mlp_ratios: tuple[int, int, int, int] = (4, 4, 4, 4)
    input_size: int = 224


# Patches are 7 pixels wide, and 2 beyond either edge are zeros.
SMALLEST_SIDE = 3


def check_config(config: CycleMLPConfig) -> None:
    """Refuse values that no network can be built from or run with.

    Raises:
        ValueError: Too few or too small values.
    """
    check_stages(config, "depths", "embed_dims", "mlp_ratios")
    check_minimum(config, 0, "depths")
    check_minimum(config, 1, "embed_dims", "mlp_ratios")
    check_minimum(config, SMALLEST_SIDE, "input_size")


# ---------------------------------------------------------------------------------------------------------------------
# Layers


def cycle_shifts(dim: int) -> Tensor:
    """Return how far each of `dim` channels is read from its position: 0, 1, -1, 0, 1, -1, ... (dim,)."""
    return (torch.arange(dim) + 1) % 3 - 1


class CycleFC(nn.Module):
    """Linear layer that reads each channel one position before, at, or after the output's: (B, C, H, W) -> (B, N, C).

    The official code calls a deformable convolution with the integer offsets that it keeps in `offset`; outside the map
    it reads zeros. A depthwise convolution with one live tap a channel does the same shift, and every runtime has it.
    `offset` is there for the official files alone: it is a constant in all of them and nothing reads it.
    """

    taps: Tensor

    def __init__(self, dim: int, axis: Literal["height", "width"]) -> None:
        super().__init__()
        self.dim = dim
        self.padding = (1, 0) if axis == "height" else (0, 1)
        self.weight = nn.Parameter(nn.init.kaiming_uniform_(torch.empty(dim, dim, 1, 1), a=5**0.5))
        self.bias = nn.Parameter(torch.zeros(dim))
        self.register_buffer("offset", cycle_offsets(dim, axis))
        taps = one_hot(cycle_shifts(dim) + 1, 3).float()  # (C, 3)
        taps = taps.reshape(dim, 1, 3, 1) if axis == "height" else taps.reshape(dim, 1, 1, 3)
        self.register_buffer("taps", taps, persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        shifted = conv2d(x, self.taps, padding=self.padding, groups=self.dim)
        return linear(to_tokens(shifted), self.weight.flatten(1), self.bias)


def cycle_offsets(dim: int, axis: Literal["height", "width"]) -> Tensor:
    """Return the official buffer: row and column offset of each channel in turn, (1, 2 * dim, 1, 1)."""
    shifts, still = cycle_shifts(dim).float(), torch.zeros(dim)
    pair = (shifts, still) if axis == "height" else (still, shifts)
    return torch.stack(pair, dim=1).reshape(1, 2 * dim, 1, 1)  # (C, 2) -> (1, 2C, 1, 1)


class SpatialMixing(nn.Module):
    """What the token mixings of CycleMLP and MLP-3D share: two spatial branches, the weighing of three, a projection.

    `sfc_h` moves along the width and `sfc_w` along the height; the names are the authors'.
    """

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.sfc_h = CycleFC(dim, "width")
        self.sfc_w = CycleFC(dim, "height")
        self.reweight = Mlp(dim, dim // 4, dim * 3)
        self.proj = nn.Linear(dim, dim)

    def merge(self, x: Tensor, third: Tensor, frames: int) -> Tensor:
        """Mix tokens by the two spatial branches and add the third one.

        Args:
            x: Normalised map (B * frames, C, H, W).
            third: What the branch that is not spatial makes of it, tokens (B * frames, N, C).
            frames: Neighbours on the batch axis that belong to one clip, whose branches are weighed alike.

        Returns:
            Tokens (B * frames, N, C).
        """
        across, down = self.sfc_h(x), self.sfc_w(x)
        dim = x.shape[1]
        pooled = across.mean(dim=1) + down.mean(dim=1) + third.mean(dim=1)  # (B * frames, C)
        pooled = pooled.reshape(-1, frames, dim).mean(dim=1)  # (B * frames, C) -> (B, C)
        shares = self.reweight(pooled).reshape(-1, 1, dim, 3).softmax(dim=-1)  # (B, 3C) -> (B, 1, C, 3)
        shares = shares.expand(-1, frames, -1, -1).reshape(-1, 1, dim, 3)  # -> (B * frames, 1, C, 3)
        mixed = across * shares[..., 0] + down * shares[..., 1] + third * shares[..., 2]
        out: Tensor = self.proj(mixed)
        return out


class CycleMixing(SpatialMixing):
    """Token mixing of CycleMLP: along width, along height, and each position by itself; tokens (B, N, C), same out."""

    def __init__(self, dim: int) -> None:
        super().__init__(dim)
        self.mlp_c = nn.Linear(dim, dim, bias=False)

    def forward(self, x: Tensor, size: Sequence[int]) -> Tensor:
        """Take tokens of a plane of `size`."""
        return self.merge(to_map(x, size), self.mlp_c(x), frames=1)


class CycleBlock(nn.Module):
    """Token mixing and feed-forward part, each with its norm and residual: (B, H, W, C), same out."""

    def __init__(self, dim: int, mlp_ratio: int) -> None:
        super().__init__()
        self.norm1 = nn.LayerNorm(dim)
        self.attn = CycleMixing(dim)
        self.norm2 = nn.LayerNorm(dim)
        self.mlp = Mlp(dim, dim * mlp_ratio)

    def forward(self, x: Tensor) -> Tensor:
        size, tokens = x.shape[1:3], x.flatten(1, 2)
        tokens = tokens + self.attn(self.norm1(tokens), size)
        tokens = tokens + self.mlp(self.norm2(tokens))
        return torch.unflatten(tokens, 1, size)


class PatchEmbed(nn.Module):
    """Overlapping patches, 7x7 at every fourth pixel, without norm: (B, 3, H, W) -> (B, H/4, W/4, C)."""

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.proj = nn.Conv2d(3, dim, 7, stride=4, padding=2)

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.proj(x).permute(0, 2, 3, 1)  # (B, C, H, W) -> (B, H, W, C)
        return out


class Downsample(nn.Module):
    """Transition between stages: (B, H, W, C) -> (B, H/2, W/2, C')."""

    def __init__(self, in_dim: int, dim: int) -> None:
        super().__init__()
        self.proj = nn.Conv2d(in_dim, dim, 3, stride=2, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.proj(x.permute(0, 3, 1, 2)).permute(0, 2, 3, 1)  # channels first for the convolution only
        return out


# ---------------------------------------------------------------------------------------------------------------------
# Network


class CycleMLP(Network):
    """CycleMLP classifier.

    Input: float32, normalised; (B, 3, H, W). Output: logits (B, num_classes).
    """

    config: CycleMLPConfig

    def __init__(self, config: CycleMLPConfig) -> None:
        super().__init__()
        check_config(config)
        self.config = config
        self.patch_embed = PatchEmbed(config.embed_dims[0])
        stages: list[nn.Module] = [
            nn.Sequential(*(CycleBlock(dim, ratio) for _ in range(depth)))
            for dim, ratio, depth in zip(config.embed_dims, config.mlp_ratios, config.depths, strict=True)
        ]
        steps: list[nn.Module] = [Downsample(a, b) for a, b in pairwise(config.embed_dims)]
        # Stages and the steps between them share one numbering in the official checkpoints.
        self.network = nn.Sequential(stages[0], steps[0], stages[1], steps[1], stages[2], steps[2], stages[3])
        self.norm = nn.LayerNorm(config.embed_dims[3])
        self.head = nn.Linear(config.embed_dims[3], config.num_classes)

    def forward(self, x: Tensor) -> Tensor:
        x = self.norm(self.network(self.patch_embed(x)))  # (B, H/32, W/32, C)
        logits: Tensor = self.head(x.mean(dim=(1, 2)))
        return logits


# ---------------------------------------------------------------------------------------------------------------------
# Variants: architectures. B4 and the T, S and B networks of the same repository are not offered.

B1 = CycleMLPConfig(num_classes=1000, depths=(2, 2, 4, 2))
B2 = CycleMLPConfig(num_classes=1000, depths=(2, 3, 10, 3))
B3 = CycleMLPConfig(num_classes=1000, depths=(3, 4, 18, 3), mlp_ratios=(8, 8, 4, 4))
B5 = CycleMLPConfig(num_classes=1000, depths=(3, 4, 24, 3), embed_dims=(96, 192, 384, 768))

# ---------------------------------------------------------------------------------------------------------------------
# Variants: weights. Preprocessing: REPO datasets.py; figures and files: README.


def _register_images() -> None:
    table = [
        ("b1", B1, 15, 2.1, 78.9),
        ("b2", B2, 27, 3.9, 81.6),
        ("b3", B3, 38, 6.9, 82.4),
        ("b5", B5, 76, 12.3, 83.2),
    ]
    for size, config, params, gflops, top1 in table:
        weights = imagenet_weights(
            224,
            Published(params, gflops, top1, "README.md, model zoo"),
            checkpoint=f"CycleMLP_{size.upper()}.pth",
            origin="release v0.1 of github.com/ShoufaChen/CycleMLP",
            licence="code under MIT (ShoufaChen/CycleMLP); weights as released by the authors",
        )
        register_variant(f"cyclemlp_{size}_in1k", CycleMLP, config, weights)


_register_images()

"""Semantic segmentation: backbones of UniFormer, light UniFormer and MorphMLP under Semantic FPN and UperNet heads.

Papers of the heads: Panoptic Feature Pyramid Networks (arXiv 1901.02446), whose semantic branch alone is Semantic FPN;
Unified Perceptual Parsing for Scene Understanding (arXiv 1807.10221), UperNet. Those of the backbones stand in their
files.
Official code: Sense-X/UniFormer@52a0415e4e0dda880fab8ffbc710e4d8e171149d (REPO below), semantic_segmentation, a copy
of mmsegmentation; attribute names follow its checkpoints. MorphMLP's segmentation code was never published: its paper
(section 4.4) names Semantic FPN and ADE20K, and the two are joined here as UniFormer's code joins them.

Layouts: images and maps (B, C, H, W). "Stages" below are the four maps of a backbone, at 1/4, 1/8, 1/16 and 1/32 of the
input, finest first.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import reduce
from operator import add
from typing import Literal

import torch
from torch import Tensor, nn

from models import morphmlp, uniformer, uniformer_light
from models.backbone import DenseBackbone
from models.checks import check_image_backbone, check_minimum
from models.registry import ModelEntry, Network, register_model
from models.weights import (
    SHAPES_LICENCE,
    SHAPES_ORIGIN,
    Published,
    Sampling,
    Views,
    Weights,
    WholePicture,
    load_labels,
)

BackboneConfig = uniformer.UniFormerConfig | uniformer_light.UniFormerLightConfig | morphmlp.MorphMLPConfig

# ---------------------------------------------------------------------------------------------------------------------
# Configuration


@dataclass(frozen=True)
class SemanticFPNConfig:
    """Widths of Semantic FPN.

    Attributes:
        neck_dim: Channels of the feature pyramid.
        dim: Channels of the head.
    """

    neck_dim: int = 256
    dim: int = 128


@dataclass(frozen=True)
class UperNetConfig:
    """Width of UperNet.

    Attributes:
        dim: Channels of everything behind the backbone.
    """

    dim: int = 512


HeadConfig = SemanticFPNConfig | UperNetConfig


@dataclass(frozen=True)
class SegmentationConfig:
    """Architecture of one segmentation network.

    Attributes:
        num_classes: Classes that the head tells apart.
        backbone: An image classifier's architecture, of which the head, `num_classes` and `input_size` do not count.
            UniFormer's `stage3` and `window_size` are set here too.
        head: What turns the backbone's stages into logits.
        input_size: Height and width of the crops that the weights were trained on; the network takes any size from 64
            on.
    """

    num_classes: int
    backbone: BackboneConfig
    head: HeadConfig = SemanticFPNConfig()
    input_size: int = 512


def check_config(config: SegmentationConfig) -> None:
    """Refuse values that no network can be built from or run with; the backbone refuses its own.

    Raises:
        ValueError: The backbone is a video network's, or a number is too small.
    """
    check_minimum(config.head, 1, *vars(config.head))
    check_minimum(config, 64, "input_size")
    check_image_backbone(config.backbone)


# ---------------------------------------------------------------------------------------------------------------------
# Backbones


def dense_backbone(config: BackboneConfig) -> DenseBackbone:
    """Return the network that turns an image into four stages."""
    match config:
        case uniformer.UniFormerConfig():
            return uniformer.DenseUniFormer(config)
        case uniformer_light.UniFormerLightConfig():
            return uniformer_light.DenseUniFormerLight(config)
        case morphmlp.MorphMLPConfig():
            return morphmlp.DenseMorphMLP(config)


# ---------------------------------------------------------------------------------------------------------------------
# Blocks


class ConvUnit(nn.Module):
    """Convolution that keeps the size, followed by BatchNorm and ReLU, or bare and with a bias."""

    def __init__(self, in_dim: int, dim: int, kernel: int, bare: bool = False) -> None:
        super().__init__()
        self.conv = nn.Conv2d(in_dim, dim, kernel, padding=kernel // 2, bias=bare)
        self.bn = None if bare else nn.BatchNorm2d(dim)

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.conv(x)
        return out if self.bn is None else nn.functional.relu(self.bn(out))


def resize(x: Tensor, size: Sequence[int], mode: Literal["bilinear", "nearest"] = "bilinear") -> Tensor:
    """Resize a map to (height, width)."""
    if tuple(x.shape[2:]) == tuple(size):
        return x
    return nn.functional.interpolate(
        x, size=tuple(size), mode=mode, align_corners=False if mode == "bilinear" else None
    )


def add_coarser(stages: Sequence[Tensor], mode: Literal["bilinear", "nearest"]) -> list[Tensor]:
    """Add to each map (finest first, all of C channels) the sum of the coarser ones, resized step by step."""
    *finer, coarsest = stages
    sums = [coarsest]
    for stage in reversed(finer):
        sums.append(stage + resize(sums[-1], stage.shape[2:], mode))
    return sums[::-1]


class FeaturePyramid(nn.Module):
    """Neck of Semantic FPN: four stages in, four maps of `dim` channels and the same sizes out."""

    def __init__(self, in_dims: Sequence[int], dim: int) -> None:
        super().__init__()
        self.lateral_convs = nn.ModuleList(ConvUnit(in_dim, dim, 1, bare=True) for in_dim in in_dims)
        self.fpn_convs = nn.ModuleList(ConvUnit(dim, dim, 3, bare=True) for _ in in_dims)

    def forward(self, stages: list[Tensor]) -> list[Tensor]:
        laterals = [lateral(stage) for lateral, stage in zip(self.lateral_convs, stages, strict=True)]
        return [conv(x) for conv, x in zip(self.fpn_convs, add_coarser(laterals, "nearest"), strict=True)]


class Double(nn.Module):
    """Bilinear enlargement: (B, C, H, W) -> (B, C, 2H, 2W)."""

    def forward(self, x: Tensor) -> Tensor:
        return resize(x, (2 * x.shape[2], 2 * x.shape[3]))


class SemanticFPNHead(nn.Module):
    """Semantic FPN: four maps of `in_dim` channels -> logits (B, num_classes, H/4, W/4).

    Level i is convolved and doubled i times, and the four are added up at the size of the first.
    """

    def __init__(self, in_dim: int, dim: int, num_classes: int) -> None:
        super().__init__()
        self.conv_seg = nn.Conv2d(dim, num_classes, 1)
        self.scale_heads = nn.ModuleList([nn.Sequential(ConvUnit(in_dim, dim, 3))])
        for level in (1, 2, 3):
            steps: list[nn.Module] = []
            for step in range(level):
                steps += [ConvUnit(dim if step else in_dim, dim, 3), Double()]
            self.scale_heads.append(nn.Sequential(*steps))

    def forward(self, stages: list[Tensor]) -> Tensor:
        size = stages[0].shape[2:]
        # Sizes that 32 does not divide come out of the doubling a little different from the first level's.
        parts = (resize(head(stage), size) for head, stage in zip(self.scale_heads, stages, strict=True))
        logits: Tensor = self.conv_seg(reduce(add, parts))
        return logits


class GridPool(nn.Module):
    """Average of each cell of a grid: (B, C, H, W) -> (B, C, cells, cells).

    This is adaptive average pooling, whose cells differ in size and overlap where `cells` does not divide the map. As
    slices and means, row by row and then column by column, every runtime takes it.
    """

    def __init__(self, cells: int) -> None:
        super().__init__()
        self.cells = cells

    def forward(self, x: Tensor) -> Tensor:
        for dim in (2, 3):
            size = x.shape[dim]
            means = []
            for cell in range(self.cells):
                start, stop = cell * size // self.cells, ((cell + 1) * size + self.cells - 1) // self.cells
                means.append(x.narrow(dim, start, stop - start).mean(dim, keepdim=True))
            x = torch.cat(means, dim)
        return x


class UperNetHead(nn.Module):
    """UperNet: four stages -> logits (B, num_classes, H/4, W/4).

    The coarsest stage meets its own averages over grids of 1, 2, 3 and 6 cells a side; a pyramid carries that to the
    finer stages, and all four results are put side by side.
    """

    def __init__(self, in_dims: Sequence[int], dim: int, num_classes: int) -> None:
        super().__init__()
        *finer_dims, coarsest_dim = in_dims
        grids = (1, 2, 3, 6)
        self.conv_seg = nn.Conv2d(dim, num_classes, 1)
        self.psp_modules = nn.ModuleList(
            nn.Sequential(GridPool(cells), ConvUnit(coarsest_dim, dim, 1)) for cells in grids
        )
        self.bottleneck = ConvUnit(coarsest_dim + len(grids) * dim, dim, 3)
        self.lateral_convs = nn.ModuleList(ConvUnit(in_dim, dim, 1) for in_dim in finer_dims)
        self.fpn_convs = nn.ModuleList(ConvUnit(dim, dim, 3) for _ in finer_dims)
        self.fpn_bottleneck = ConvUnit(len(in_dims) * dim, dim, 3)

    def forward(self, stages: list[Tensor]) -> Tensor:
        *finer, coarsest = stages
        pooled = [resize(psp(coarsest), coarsest.shape[2:]) for psp in self.psp_modules]
        context = self.bottleneck(torch.cat([coarsest, *pooled], dim=1))
        laterals = [lateral(stage) for lateral, stage in zip(self.lateral_convs, finer, strict=True)]
        *sums, _ = add_coarser([*laterals, context], "bilinear")
        levels = [*(conv(x) for conv, x in zip(self.fpn_convs, sums, strict=True)), context]
        size = levels[0].shape[2:]
        logits: Tensor = self.conv_seg(self.fpn_bottleneck(torch.cat([resize(x, size) for x in levels], dim=1)))
        return logits


# ---------------------------------------------------------------------------------------------------------------------
# Network


class Segmentor(Network):
    """Backbone, neck and head.

    Input: float32, normalised, (B, 3, H, W). Output: logits (B, num_classes, H, W).
    """

    config: SegmentationConfig

    def __init__(self, config: SegmentationConfig) -> None:
        super().__init__()
        check_config(config)
        self.config = config
        dims = config.backbone.embed_dims
        self.backbone = dense_backbone(config.backbone)
        match config.head:
            case SemanticFPNConfig(neck_dim, dim):
                self.neck: nn.Module = FeaturePyramid(dims, neck_dim)
                self.decode_head: nn.Module = SemanticFPNHead(neck_dim, dim, config.num_classes)
            case UperNetConfig(dim):
                self.neck = nn.Identity()
                self.decode_head = UperNetHead(dims, dim, config.num_classes)

    def remap_checkpoint(self, state_dict: dict[str, Tensor]) -> dict[str, Tensor]:
        """Drop the auxiliary head: it lends UperNet's training a second loss and has no part in the answer."""
        return {key: value for key, value in state_dict.items() if not key.startswith("auxiliary_head.")}

    def coarse_logits(self, x: Tensor) -> Tensor:
        """Return logits (B, num_classes, H/4, W/4), which `forward` enlarges to the input's size."""
        logits: Tensor = self.decode_head(self.neck(self.backbone(x)))
        return logits

    def forward(self, x: Tensor) -> Tensor:
        return resize(self.coarse_logits(x), x.shape[2:])


# ---------------------------------------------------------------------------------------------------------------------
# Variants
# Preprocessing: REPO semantic_segmentation, test_config_*.py; figures: the papers' tables, single scale.
# UperNet's authors leave the sides as they come out, and the patch embeddings drop the pixels that are left over; here
# the sides are padded instead, so that no pixel goes unseen.


def _register(
    name: str,
    backbone: BackboneConfig,
    head: HeadConfig,
    published: Published,
    origin: str,
    licence: str,
) -> None:
    weights = Weights(
        task="image_segmentation",
        dataset="ADE20K",
        labels="ade20k",
        preprocessing=WholePicture(512, 2048, "stretch" if isinstance(head, SemanticFPNConfig) else "pad", window=512),
        sampling=Sampling("single", num_frames=1),
        views=Views(),
        published=published,
        checkpoint=None,
        origin=origin,
        licence=licence,
    )
    config = SegmentationConfig(len(load_labels(weights.labels)), backbone, head)
    register_model(ModelEntry(name, "segmentation", Segmentor, config, weights))


def _register_uniformer() -> None:
    at_512_2048 = "GFLOPs at 512 x 2048"
    small, base = uniformer.SMALL, uniformer.BASE
    # The variants with windows are not trained as such: they are the plain ones' checkpoints, tested with windows of
    # the size that training saw.
    hybrid_small, hybrid_base = (replace(config, stage3="hybrid", window_size=32) for config in (small, base))
    windowed_small = replace(small, stage3="window", window_size=32)
    table: list[tuple[str, BackboneConfig, float, float, float, str]] = [
        ("s_fpn", small, 25, 247, 46.6, f"paper, table 8; {at_512_2048}"),
        ("s_h32_fpn", hybrid_small, 25, 199, 46.2, f"paper, table 8; {at_512_2048}"),
        ("s_w32_fpn", windowed_small, 25, 183, 45.2, f"paper, table 21; {at_512_2048}"),
        ("b_fpn", base, 54, 471, 48.0, f"paper, table 8; {at_512_2048}"),
        ("b_h32_fpn", hybrid_base, 54, 350, 47.7, f"paper, table 8; {at_512_2048}"),
        ("xxs_fpn", uniformer_light.XXS, 13.5, 29.2, 42.3, "paper, table 14; GFLOPs at 512 x 512"),
        ("xs_fpn", uniformer_light.XS, 19.7, 32.9, 44.4, "paper, table 14; GFLOPs at 512 x 512"),
        # Table 9 says 1008 GFLOPs.
        ("s_upernet", small, 52, 1004, 47.6, f"paper, tables 9 and 21; {at_512_2048}"),
        ("s_h32_upernet", hybrid_small, 52, 955, 47.0, f"paper, table 9; {at_512_2048}"),
        ("b_upernet", base, 80, 1227, 50.0, f"paper, table 9; {at_512_2048}"),
        ("b_h32_upernet", hybrid_base, 80, 1106, 49.5, f"paper, table 9; {at_512_2048}"),
    ]
    for name, backbone, params, gflops, miou, source in table:
        head = UperNetConfig() if name.endswith("upernet") else SemanticFPNConfig()
        published = Published(params, gflops, miou, source, metric="mIoU")
        _register(f"uniformer_{name}_ade20k", backbone, head, published, uniformer.OFFICIAL, uniformer.LICENCE)


def _register_morphmlp() -> None:
    # The paper's parameters are fewer than those of these backbones under the usual head: 27.1, 44.2 and 61.6 M.
    table = [
        ("t", morphmlp.TINY, 26.4, 43.0),
        ("s", morphmlp.SMALL, 41.0, 44.7),
        ("b", morphmlp.BASE, 59.3, 45.9),
    ]
    for size, backbone, params, miou in table:
        published = Published(params, None, miou, "paper, table 6", metric="mIoU")
        _register(
            f"morphmlp_{size}_fpn_ade20k", backbone, SemanticFPNConfig(), published, "not published", morphmlp.LICENCE
        )


def _register_demo() -> None:
    # Sized for the generated scenes of demo/: well under 2.5 M parameters and 1 GMAC at 128 x 128.
    weights = Weights(
        task="image_segmentation",
        dataset="generated scenes",
        labels="tiny_shapes_scenes",
        preprocessing=WholePicture(128, 512, "stretch", window=128),
        sampling=Sampling("single", num_frames=1),
        views=Views(),
        published=None,
        checkpoint="uniformer_tiny_shapes_fpn.safetensors",
        origin=SHAPES_ORIGIN,
        licence=SHAPES_LICENCE,
    )
    config = SegmentationConfig(
        len(load_labels(weights.labels)), uniformer.TINY_IMAGE, SemanticFPNConfig(neck_dim=64, dim=48), input_size=128
    )
    register_model(ModelEntry("uniformer_tiny_shapes_fpn", "segmentation", Segmentor, config, weights))


_register_uniformer()
_register_morphmlp()
_register_demo()

"""MorphMLP: fully-connected layers over token chunks that grow from stage to stage; images, video, dense maps.

Paper: MorphMLP: A Self-Attention Free, MLP-Like Backbone for Image and Video (arXiv 2111.12527).
Official code, video only: MTLab/MorphMLP@62ebe80d7f76b7271c55b7c22477852824327e90 (REPO below); attribute names follow
its checkpoints. Image code was never published: the image network here is the video network without time and its
temporal branch, which agrees with the paper's parameters and operations for T, B and L (S: 40.5 M, the paper says 38).

Layouts: images (B, C, H, W), video (B, C, T, H, W) at the network's border; inside, a "plane" is channels-last,
(B, H, W, C) or (B, T, H, W, C), and the spatial layers treat every frame alike. Norms, sums and feed-forward parts of
blocks work on the plane's tokens, (B, N, C).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import reduce
from itertools import pairwise
from operator import add
from typing import ClassVar, Literal

import torch
from torch import Tensor, nn

from models.backbone import Backbone, DenseBackbone
from models.checks import check_minimum, check_stages
from models.layers import Mlp, to_tokens
from models.registry import Network, register_variant
from models.weights import Preprocessing, Published, Sampling, Views, Weights, imagenet_weights, shapes_weights

# ---------------------------------------------------------------------------------------------------------------------
# Configuration


@dataclass(frozen=True)
class MorphMLPConfig:
    """Architecture of one MorphMLP.

    Attributes:
        num_classes: Outputs of the head.
        depths: Blocks in each of the four stages.
        embed_dims: Channels of each stage, multiples of that stage's chunk length.
        chunk_lengths: Tokens that one spatial FC sees: a quarter row, a row, two rows and everything at 224.
        mlp_ratio: Hidden width of the feed-forward part, in multiples of the channels.
        num_frames: Frames a clip, 16 or 32; None makes the image network.
        input_size: Height and width of the input the weights were trained at; the network takes any size.
    """

    num_classes: int
    depths: tuple[int, int, int, int]
    embed_dims: tuple[int, int, int, int] = (112, 224, 392, 784)
    chunk_lengths: tuple[int, int, int, int] = (14, 28, 28, 49)
    mlp_ratio: int = 3
    num_frames: int | None = None
    input_size: int = 224

    @property
    def is_video(self) -> bool:
        return self.num_frames is not None

    @property
    def time_steps(self) -> int:
        """Time steps after the stem, which halves the frames; 1 for images."""
        return self.num_frames // 2 if self.num_frames else 1


def check_config(config: MorphMLPConfig) -> None:
    """Refuse values that no network can be built from or run with.

    Raises:
        ValueError: Too few or too small values, frames that MorphFC_t is not defined for, or chunks that do not divide
            the channels.
    """
    check_stages(config, "depths", "embed_dims", "chunk_lengths")
    check_minimum(config, 0, "depths")
    check_minimum(config, 1, "embed_dims", "chunk_lengths", "mlp_ratio", "input_size")
    if config.num_frames not in (None, 16, 32):
        raise ValueError(
            f"num_frames={config.num_frames}: MorphFC_t is defined for 16 and 32 frames; use one of these, or None "
            f"for the image network"
        )
    for dim, length in zip(config.embed_dims, config.chunk_lengths, strict=True):
        if dim % length:
            raise ValueError(
                f"embed_dims={config.embed_dims} must be multiples of chunk_lengths={config.chunk_lengths}, "
                f"and {dim} is none of {length}"
            )


# ---------------------------------------------------------------------------------------------------------------------
# Blocks


def mix_chunks(fc: nn.Linear, x: Tensor, length: int, step: int) -> Tensor:
    """Apply `fc` to chunks of a channels-last tensor (..., C); the shape stays.

    A chunk is `length` positions that lie `step` apart in the flattened order of all axes but the last. Its channels
    fall into groups of S = fc.in_features / length, and one application of `fc` sees the S channels of one group at all
    positions of one chunk, position slow and channel fast.
    """
    group_dim = fc.in_features // length
    # (..., C) -> (M, length, step * groups, S) -> (M, step * groups, length, S)
    chunks = x.reshape(-1, length, step * x.shape[-1] // group_dim, group_dim).transpose(1, 2)
    mixed = fc(chunks.flatten(2)).unflatten(2, (length, group_dim))  # through (M, step * groups, length * S)
    out: Tensor = mixed.transpose(1, 2).reshape(x.shape)  # (M, length, step * groups, S) -> (..., C)
    return out


def divides(length: int, size: int) -> bool:
    """Tell whether `size` is a multiple of `length`; no, where an exported graph is to take any size."""
    return not isinstance(size, torch.SymInt) and size % length == 0


def mix_plane(fc: nn.Linear, x: Tensor, length: int, interleaved: bool = False) -> Tensor:
    """Apply `fc` to chunks of the row-major token sequence of each frame: (..., H, W, C) -> (..., H, W, C).

    The paper promises any image size but gives no rule for H * W tokens that are no multiple of `length`, and the
    official code stops there. Here the end of the sequence is padded with zeros, and the padding dropped afterwards:
    this is the official result at every size that the official code takes, 224 x 448 included.

    Args:
        fc: Square linear layer, as wide as the plane's channels.
        x: The plane.
        length: Tokens a chunk.
        interleaved: With n chunks, chunk j takes tokens j, j + n, j + 2n, ... in place of consecutive ones.
    """
    tokens = x.reshape(-1, x.shape[-3] * x.shape[-2], x.shape[-1])  # (..., H, W, C) -> (B * T, N, C)
    count = tokens.shape[1]
    if divides(length, count):
        return mix_chunks(fc, tokens, length, step=count // length if interleaved else 1).reshape(x.shape)
    chunks = (count + length - 1) // length
    padded = nn.functional.pad(tokens, (0, 0, 0, chunks * length - count))
    mixed = mix_chunks(fc, padded, length, step=chunks if interleaved else 1)[:, :count]
    return mixed.reshape(x.shape)  # (B * T, N, C) -> (..., H, W, C)


def mix_columns(fc: nn.Linear, x: Tensor, length: int) -> Tensor:
    """Apply `fc` to chunks of the column-major token sequence of each frame: (..., H, W, C) -> (..., H, W, C)."""
    if divides(length, x.shape[-3]):
        # No chunk crosses from one column to the next: its tokens lie a row apart, and nothing need be transposed.
        return mix_chunks(fc, x, length, step=x.shape[-2])
    return mix_plane(fc, x.transpose(-3, -2), length).transpose(-3, -2)


class MorphFC(nn.Module):
    """Spatial MorphFC (paper section 3.1): three pathways, weighted a sample and channel: plane -> plane.

    The pathways are an FC along columns (mlp_h), one along rows (mlp_w) and one over channels (mlp_c). The sum in the
    paper's text is, in its table 9 and in the code, a softmax-weighted one; no activation follows, unlike in the text.
    """

    def __init__(self, dim: int, chunk_length: int) -> None:
        super().__init__()
        self.chunk_length = chunk_length
        self.mlp_h = nn.Linear(dim, dim)
        self.mlp_w = nn.Linear(dim, dim)
        self.mlp_c = nn.Linear(dim, dim)
        self.reweight = Mlp(dim, dim // 4, dim * 3)
        self.proj = nn.Linear(dim, dim)

    def forward(self, x: Tensor) -> Tensor:
        columns = mix_columns(self.mlp_h, x, self.chunk_length)
        rows = mix_plane(self.mlp_w, x, self.chunk_length)
        out: Tensor = self.proj(weighted_sum(self.reweight, [columns, rows, self.mlp_c(x)]))
        return out


class GlobalMorphFC(nn.Module):
    """MorphFC of the last stage, where a chunk is the whole 7x7 map: plane -> plane.

    Rows and columns would see the same tokens, so one pathway (mlp_h, in row-major order) does for both. On larger maps
    the official code interleaves its chunks, unlike in the other stages.
    """

    def __init__(self, dim: int, chunk_length: int) -> None:
        super().__init__()
        self.chunk_length = chunk_length
        self.mlp_h = nn.Linear(dim, dim)
        self.mlp_c = nn.Linear(dim, dim)
        self.reweight = Mlp(dim, dim // 4, dim * 2)
        self.proj = nn.Linear(dim, dim)

    def forward(self, x: Tensor) -> Tensor:
        everywhere = mix_plane(self.mlp_h, x, self.chunk_length, interleaved=True)
        out: Tensor = self.proj(weighted_sum(self.reweight, [everywhere, self.mlp_c(x)]))
        return out


def weighted_sum(reweight: nn.Module, branches: list[Tensor]) -> Tensor:
    """Return the sum of planes, weighted by a softmax over the branches for each sample and channel.

    Args:
        reweight: Maps the mean of the summed branches, (B, C), to (B, C * branches), branch fast.
        branches: Planes of one shape.
    """
    ones = (1,) * (branches[0].ndim - 2)
    mean = reduce(add, branches).flatten(1, -2).mean(dim=1)  # (B, ..., C) -> (B, C)
    weights = reweight(mean).unflatten(-1, (-1, len(branches))).softmax(dim=-1)  # (B, C, branches)
    # (B, C) -> (B, 1, ..., 1, C) for each branch
    parts = (part.unflatten(0, (-1, *ones)) for part in weights.unbind(-1))
    out: Tensor = reduce(add, (branch * part for branch, part in zip(branches, parts, strict=True)))
    return out


def temporal_groups(dim: int, time_steps: int) -> int:
    """Return the channel groups of MorphFC_t: one a time step, or the next smaller number that divides the channels.

    The official files set 8 groups for 8 steps, and 16 for 16 except 14 where there are 392 channels.
    """
    return next(groups for groups in range(time_steps, 0, -1) if dim % groups == 0)


class TemporalMorphFC(nn.Module):
    """MorphFC_t (paper section 3.2): an FC over all time steps of one place: (B, T, H, W, C) -> (B, T, H, W, C).

    It starts as the constant zero, so that a video training begins with what the spatial layers learnt from images.
    """

    def __init__(self, dim: int, time_steps: int) -> None:
        super().__init__()
        self.time_steps = time_steps
        width = dim // temporal_groups(dim, time_steps) * time_steps
        self.mlp_t = nn.Linear(width, width)
        self.proj = nn.Linear(dim, dim)
        nn.init.zeros_(self.mlp_t.weight)
        nn.init.zeros_(self.mlp_t.bias)
        nn.init.ones_(self.proj.weight)
        nn.init.zeros_(self.proj.bias)

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.proj(mix_chunks(self.mlp_t, x, self.time_steps, step=x.shape[2] * x.shape[3]))
        return out


class MorphBlock(nn.Module):
    """MorphMLP block: (temporal,) spatial and feed-forward part, plane -> plane (paper figures 4 and 6)."""

    def __init__(self, config: MorphMLPConfig, stage: int) -> None:
        super().__init__()
        dim, length = config.embed_dims[stage], config.chunk_lengths[stage]
        self.is_video = config.is_video
        if config.is_video:
            self.t_norm1 = nn.LayerNorm(dim)
            self.t_fc = TemporalMorphFC(dim, config.time_steps)
        self.norm1 = nn.LayerNorm(dim)
        self.fc = GlobalMorphFC(dim, length) if stage == 3 else MorphFC(dim, length)
        self.norm2 = nn.LayerNorm(dim)
        self.mlp = Mlp(dim, dim * config.mlp_ratio)

    def forward(self, x: Tensor) -> Tensor:
        size, tokens = x.shape[1:-1], x.flatten(1, -2)
        mixed = tokens + _on_plane(self.t_fc, self.t_norm1(tokens), size) if self.is_video else tokens
        # The residual skips the temporal part too: time reaches the output through the spatial FC alone.
        tokens = tokens + _on_plane(self.fc, self.norm1(mixed), size)
        tokens = tokens + self.mlp(self.norm2(tokens))
        return torch.unflatten(tokens, 1, size)


def _on_plane(layer: nn.Module, tokens: Tensor, size: Sequence[int]) -> Tensor:
    plane: Tensor = layer(torch.unflatten(tokens, 1, size))
    return plane.flatten(1, -2)


def conv(in_dim: int, dim: int, is_video: bool, over_time: bool = False) -> nn.Conv2d | nn.Conv3d:
    """Return a convolution, kernel 3 and stride 2 over space; over time the same if asked for, else nothing."""
    if not is_video:
        return nn.Conv2d(in_dim, dim, 3, stride=2, padding=1)
    if over_time:
        return nn.Conv3d(in_dim, dim, 3, stride=2, padding=1)
    return nn.Conv3d(in_dim, dim, (1, 3, 3), stride=(1, 2, 2), padding=(0, 1, 1))


class Stem(nn.Module):
    """Two convolutions, 1/4 of the input's height and width, half its frames: map (B, 3, ...) -> plane."""

    def __init__(self, dim: int, is_video: bool) -> None:
        super().__init__()
        BatchNorm = nn.BatchNorm3d if is_video else nn.BatchNorm2d
        self.proj1 = conv(3, dim // 2, is_video, over_time=True)
        self.norm1 = BatchNorm(dim // 2)
        self.act = nn.GELU()
        self.proj2 = conv(dim // 2, dim, is_video)
        self.norm2 = BatchNorm(dim)

    def forward(self, x: Tensor) -> Tensor:
        x = self.act(self.norm1(self.proj1(x)))
        out: Tensor = self.norm2(self.proj2(x))
        return out.movedim(1, -1)


class Downsample(nn.Module):
    """Step between stages: one convolution, half the height and width, LayerNorm: map -> plane."""

    def __init__(self, in_dim: int, dim: int, is_video: bool) -> None:
        super().__init__()
        self.proj = conv(in_dim, dim, is_video)
        self.norm = nn.LayerNorm(dim)

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.norm(self.proj(x).movedim(1, -1))
        return out


# ---------------------------------------------------------------------------------------------------------------------
# Network


class MorphMLPBackbone(Backbone):
    """The four stages of MorphMLP, for dense prediction and as the base of the classifier.

    Input: float32, normalised; (B, 3, H, W) or (B, 3, T, H, W); any height and width from 1 on, exactly `num_frames`
    frames. Maps are rounded up. Video leaves with half its frames.
    """

    config: MorphMLPConfig

    def __init__(self, config: MorphMLPConfig) -> None:
        super().__init__()
        check_config(config)
        self.config = config
        dims = config.embed_dims
        self.patch_embed1 = Stem(dims[0], config.is_video)
        self.patch_embed2, self.patch_embed3, self.patch_embed4 = (
            Downsample(a, b, config.is_video) for a, b in pairwise(dims)
        )
        self.blocks1, self.blocks2, self.blocks3, self.blocks4 = (
            nn.ModuleList(MorphBlock(config, stage) for _ in range(config.depths[stage])) for stage in range(4)
        )

    def forward_stages(self, x: Tensor) -> list[Tensor]:
        """Return the maps of the four stages, as every backbone does.

        Raises:
            ValueError: A video network is given another number of frames than it was built for.
        """
        frames = self.config.num_frames
        if frames is not None and (x.ndim != 5 or x.shape[2] != frames):
            raise ValueError(
                f"the network was built for (batch, 3, {frames}, height, width) and got {tuple(x.shape)}: sample "
                f"{frames} frames, or build it with another num_frames"
            )
        maps = []
        for embed, blocks in (
            (self.patch_embed1, self.blocks1),
            (self.patch_embed2, self.blocks2),
            (self.patch_embed3, self.blocks3),
            (self.patch_embed4, self.blocks4),
        ):
            plane = embed(x)
            for block in blocks:
                plane = block(plane)
            x = plane.movedim(-1, 1)
            maps.append(x)
        return maps


class MorphMLP(MorphMLPBackbone):
    """MorphMLP classifier.

    Input: as the backbone's. Output: logits (B, num_classes).
    """

    def __init__(self, config: MorphMLPConfig) -> None:
        super().__init__(config)
        self.norm = nn.LayerNorm(config.embed_dims[3])
        self.head = nn.Linear(config.embed_dims[3], config.num_classes)

    def forward(self, x: Tensor) -> Tensor:
        last = self.forward_stages(x)[-1]
        tokens = self.norm(to_tokens(last))
        logits: Tensor = self.head(tokens.mean(dim=1))
        return logits


class DenseMorphMLP(DenseBackbone, MorphMLPBackbone):
    """MorphMLP for dense prediction.

    Input: float32, normalised, (B, 3, H, W); any height and width from 1 on. Output: four maps, float32,
    (B, C, H/4, W/4) to (B, C, H/32, W/32), rounded up. That there are norms is an assumption, after UniFormer: the
    paper does not say what its head is given.
    """

    norm_eps: ClassVar[float] = 1e-5


def randomise_time(network: Network) -> None:
    """Start the temporal layers at random, for a training that no image training came before.

    As constants they are all alike, and equal gradients keep the channels of a group equal for ever.
    """
    for module in network.modules():
        if isinstance(module, TemporalMorphFC):
            module.mlp_t.reset_parameters()
            module.proj.reset_parameters()


# ---------------------------------------------------------------------------------------------------------------------
# Variants: architectures

TINY = MorphMLPConfig(num_classes=1000, depths=(3, 4, 7, 3), embed_dims=(84, 168, 336, 588))
SMALL = MorphMLPConfig(num_classes=1000, depths=(3, 4, 9, 3))
BASE = MorphMLPConfig(num_classes=1000, depths=(4, 6, 15, 4))
LARGE = MorphMLPConfig(num_classes=1000, depths=(4, 8, 18, 6))
# Sized for the generated clips of demo/. Chunks are a row, two rows and everything, as in the others.
TINY_SHAPES = MorphMLPConfig(
    num_classes=11,
    depths=(1, 1, 2, 1),
    embed_dims=(16, 48, 96, 144),
    chunk_lengths=(16, 16, 16, 4),
    num_frames=16,
    input_size=64,
)

# ---------------------------------------------------------------------------------------------------------------------
# Variants: weights
# Preprocessing and sampling: REPO slowfast/datasets and configs; views: README; figures: the paper's tables 2 to 5 and
# the README, which adds MorphMLP-B on Something-Something V1.
# Frames of Something-Something are read with OpenCV and never turned to RGB by the authors' loader.

OFFICIAL = "linked from the model zoo tables in the README of github.com/MTLab/MorphMLP"
UNRELEASED = "not published; the README of github.com/MTLab/MorphMLP holds its place"
LICENCE = "code under Apache-2.0 (MTLab/MorphMLP); weights as released by the authors"


def _register_images() -> None:
    table = [
        ("t", TINY, 23, 3.9, 81.6),
        ("s", SMALL, 38, 7.0, 82.6),
        ("b", BASE, 58, 10.2, 83.2),
        ("l", LARGE, 76, 12.5, 83.4),
    ]
    for size, config, params, gflops, top1 in table:
        # The paper trains with DeiT's code; that its evaluation is DeiT's too is an assumption.
        weights = imagenet_weights(
            224,
            Published(params, gflops, top1, "paper, table 2"),
            # The ImageNet files of the README are in video form, for starting a video training, and fit no image model.
            checkpoint=None,
            origin=UNRELEASED,
            licence=LICENCE,
        )
        register_variant(f"morphmlp_{size}_in1k", MorphMLP, config, weights)


def _video(
    dataset: str,
    labels: str,
    resize: int,
    sampling: Sampling,
    views: Views,
    published: Published,
    origin: str,
    channels: Literal["rgb", "bgr"],
) -> Weights:
    return Weights(
        task="video_classification",
        dataset=dataset,
        labels=labels,
        preprocessing=Preprocessing(resize, (224, 224), "bilinear", (0.45,) * 3, (0.225,) * 3, channels),
        sampling=sampling,
        views=views,
        published=published,
        checkpoint=None,
        origin=origin,
        licence=LICENCE,
    )


def _register_kinetics() -> None:
    # The README links one and the same file for S at 16 and at 32 frames; files of 16-frame S that were downloaded
    # before 2023-03-16 are really B.
    table = [
        ("s", SMALL, 16, 268, 78.7, OFFICIAL),
        ("s", SMALL, 32, 532, 79.7, UNRELEASED),
        ("b", BASE, 16, 392, 79.5, OFFICIAL),
        ("b", BASE, 32, 788, 80.8, OFFICIAL),
    ]
    for size, config, frames, gflops, top1, origin in table:
        weights = _video(
            "Kinetics-400",
            "kinetics400_uniformer",
            256,
            Sampling("dense", frames, rate=4, target_fps=30),
            Views(clips=4),
            Published(None, gflops, top1, "paper, table 3"),
            origin,
            channels="rgb",
        )
        if (size, frames) == ("s", 16):
            weights = replace(weights, checkpoint="mlp_s16x4_k400.pth")
        register_variant(f"morphmlp_{size}_{frames}x4_k400", MorphMLP, replace(config, num_frames=frames), weights)


def _register_something_something() -> None:
    # (size, config, frames, data set, GFLOPs of all views, top-1, source, origin)
    table = [
        ("s", SMALL, 16, "ssv1", 201, 53.9, "paper, table 5", UNRELEASED),
        ("s", SMALL, 32, "ssv1", None, None, "no figures; the repository has its configuration only", UNRELEASED),
        ("b", BASE, 16, "ssv1", 294, 55.1, "README", OFFICIAL),
        ("b", BASE, 32, "ssv1", 591, 57.4, "README", OFFICIAL),
        ("s", SMALL, 16, "ssv2", 201, 67.1, "paper, table 4", UNRELEASED),
        ("s", SMALL, 32, "ssv2", 405, 68.3, "paper, table 4", UNRELEASED),
        ("b", BASE, 16, "ssv2", 294, 67.6, "paper, table 4", UNRELEASED),
        ("b", BASE, 32, "ssv2", 591, 70.1, "paper, table 4", UNRELEASED),
    ]
    for size, config, frames, dataset, gflops, top1, source, origin in table:
        weights = _video(
            f"Something-Something V{dataset[-1]}",
            dataset,
            224,
            Sampling("segments_offset", frames),
            Views(crops=3, single_crop="first"),
            Published(None, gflops, top1, source),
            origin,
            channels="bgr",
        )
        register_variant(f"morphmlp_{size}_{frames}_{dataset}", MorphMLP, replace(config, num_frames=frames), weights)


_register_images()
_register_kinetics()
_register_something_something()
register_variant("morphmlp_tiny_shapes", MorphMLP, TINY_SHAPES, shapes_weights("morphmlp_tiny_shapes", 16, 64))

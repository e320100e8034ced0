"""UniFormer: convolution in the shallow stages, self-attention in the deep ones; images and video.

Paper: UniFormer: Unifying Convolution and Self-attention for Visual Recognition (arXiv 2201.09450).
Official code: Sense-X/UniFormer@52a0415e4e0dda880fab8ffbc710e4d8e171149d (REPO below); attribute names follow its
checkpoints.

Layouts: images (B, C, H, W), video (B, C, T, H, W), tokens (B, N, C) with N = T*H*W in raster order. "Map" below means
either of the first two; both share one set of blocks that differ only in the rank of their convolutions.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from itertools import pairwise
from typing import Literal

import torch
from torch import Tensor, nn

from models.backbone import Backbone, DenseBackbone
from models.checks import check_choice, check_heads, check_minimum, check_stages
from models.layers import ChannelsFirstLayerNorm, Mlp, to_map, to_tokens
from models.registry import register_variant
from models.weights import Preprocessing, Published, Sampling, Views, Weights, imagenet_weights, shapes_weights

# ---------------------------------------------------------------------------------------------------------------------
# Configuration


@dataclass(frozen=True)
class UniFormerConfig:
    """Architecture of one UniFormer.

    Attributes:
        num_classes: Outputs of the head.
        depths: Blocks in each of the four stages; stages 1 and 2 are local, 3 and 4 global.
        embed_dims: Channels of each stage.
        head_dim: Channels an attention head. It leaves no trace in a checkpoint's shapes, so it must be right here.
        mlp_ratio: Hidden width of the feed-forward part, in multiples of the channels.
        num_frames: Frames a clip; None makes the image network.
        input_size: Height and width of the input the weights were trained at; the network takes any size.
        stem: "patch" cuts non-overlapping patches (S, B, L); "conv" stacks overlapping convolutions (S-plus).
        layer_scale: For each stage, whether its blocks scale their branches by learned vectors.
        token_labeling: Adds the auxiliary head that votes by the maximum over tokens (image models only).
        stage3: How far the tokens of stage 3 see: "global" everywhere, "window" within windows, "hybrid" within windows
            but for every fourth block (image models only; for large images). It leaves no trace in a checkpoint either.
        window_size: Height and width of these windows, tokens.
    """

    num_classes: int
    depths: tuple[int, int, int, int]
    embed_dims: tuple[int, int, int, int] = (64, 128, 320, 512)
    head_dim: int = 64
    mlp_ratio: int = 4
    num_frames: int | None = None
    input_size: int = 224
    stem: Literal["patch", "conv"] = "patch"
    layer_scale: tuple[bool, bool, bool, bool] = (False, False, False, False)
    token_labeling: bool = False
    stage3: Literal["global", "window", "hybrid"] = "global"
    window_size: int = 14

    @property
    def is_video(self) -> bool:
        return self.num_frames is not None

    def is_windowed(self, stage: int, block: int) -> bool:
        """Whether attention in that block keeps within windows; both count from 0."""
        return stage == 2 and (self.stage3 == "window" or (self.stage3 == "hybrid" and block % 4 != 3))


def check_config(config: UniFormerConfig) -> None:
    """Refuse values that no network can be built from or run with.

    Raises:
        ValueError: Too few or too small values, heads that do not divide the channels, or what video does not have.
    """
    check_stages(config, "depths", "embed_dims", "layer_scale")
    check_minimum(config, 0, "depths")
    check_minimum(config, 1, "embed_dims", "mlp_ratio", "num_frames", "input_size", "window_size")
    check_heads(config.head_dim, config.embed_dims[2:])
    check_choice(config, "stem", ("patch", "conv"))
    check_choice(config, "stage3", ("global", "window", "hybrid"))
    if config.is_video and (config.stem == "conv" or config.token_labeling or config.stage3 != "global"):
        raise ValueError(
            "the conv stem, token labeling and windows exist for image models only: leave num_frames unset"
        )
    if config.stem == "patch":
        check_minimum(config, 32, "input_size", why="patches of the last stage are 32 pixels wide")


# ---------------------------------------------------------------------------------------------------------------------
# Blocks


def conv(is_video: bool) -> type[nn.Conv2d] | type[nn.Conv3d]:
    """Return the convolution class of the map's rank."""
    return nn.Conv3d if is_video else nn.Conv2d


def batch_norm(is_video: bool) -> type[nn.BatchNorm2d] | type[nn.BatchNorm3d]:
    """Return the batch normalisation class of the map's rank."""
    return nn.BatchNorm3d if is_video else nn.BatchNorm2d


class ConvMlp(nn.Module):
    """Feed-forward part of a local block: two 1x1 convolutions with an exact GELU between, on a map."""

    def __init__(self, dim: int, hidden_dim: int, is_video: bool) -> None:
        super().__init__()
        self.fc1 = conv(is_video)(dim, hidden_dim, 1)
        self.act = nn.GELU()
        self.fc2 = conv(is_video)(hidden_dim, dim, 1)

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.fc2(self.act(self.fc1(x)))
        return out


class LocalBlock(nn.Module):
    """Local relation aggregator (paper section 3.2): a map of C channels in, the same out.

    The token affinity is a depthwise 5x5(x5) convolution between two pointwise ones; no activation inside the branch.
    """

    def __init__(self, dim: int, mlp_ratio: int, layer_scale: bool, is_video: bool) -> None:
        super().__init__()
        Conv, BatchNorm = conv(is_video), batch_norm(is_video)
        self.pos_embed = Conv(dim, dim, 3, padding=1, groups=dim)
        self.norm1 = BatchNorm(dim)
        self.conv1 = Conv(dim, dim, 1)
        self.conv2 = Conv(dim, dim, 1)
        self.attn = Conv(dim, dim, 5, padding=2, groups=dim)
        self.norm2 = BatchNorm(dim)
        self.mlp = ConvMlp(dim, dim * mlp_ratio, is_video)
        self.layer_scale = layer_scale
        if layer_scale:
            shape = (1, dim, 1, 1, 1) if is_video else (1, dim, 1, 1)
            self.gamma_1 = nn.Parameter(torch.full(shape, 1e-6))
            self.gamma_2 = nn.Parameter(torch.full(shape, 1e-6))

    def forward(self, x: Tensor) -> Tensor:
        x = x + self.pos_embed(x)
        attended = self.conv2(self.attn(self.conv1(self.norm1(x))))
        x = x + (self.gamma_1 * attended if self.layer_scale else attended)
        fed = self.mlp(self.norm2(x))
        out: Tensor = x + (self.gamma_2 * fed if self.layer_scale else fed)
        return out


class Attention(nn.Module):
    """Multi-head self-attention over tokens: (B, N, C) -> (B, N, C)."""

    def __init__(self, dim: int, num_heads: int) -> None:
        super().__init__()
        self.num_heads = num_heads
        self.scale = (dim // num_heads) ** -0.5
        self.qkv = nn.Linear(dim, dim * 3)
        self.proj = nn.Linear(dim, dim)

    def project(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Return scaled queries (B, heads, N, C / heads), keys (B, heads, C / heads, N) and values, as queries."""
        b, n, _ = x.shape
        # (B, N, 3C) -> three of (B, heads, N, C / heads)
        q, k, v = (part.reshape(b, n, self.num_heads, -1).transpose(1, 2) for part in self.qkv(x).chunk(3, dim=-1))
        return q * self.scale, k.transpose(-2, -1), v

    def attend(self, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        """Return the new tokens (B, N, C) of what `project` returned."""
        mixed = (q @ k).softmax(dim=-1) @ v
        out: Tensor = self.proj(mixed.transpose(1, 2).flatten(2))  # (B, heads, N, C / heads) -> (B, N, C)
        return out

    def forward(self, x: Tensor) -> Tensor:
        return self.attend(*self.project(x))


class AttentionBlock(nn.Module):
    """What blocks with attention over tokens are made of: position convolution, attention and feed-forward part."""

    def __init__(self, dim: int, head_dim: int, mlp_ratio: int, layer_scale: bool, is_video: bool) -> None:
        super().__init__()
        self.pos_embed = conv(is_video)(dim, dim, 3, padding=1, groups=dim)
        self.norm1 = nn.LayerNorm(dim, eps=1e-6)
        self.attn = Attention(dim, num_heads=dim // head_dim)
        self.norm2 = nn.LayerNorm(dim, eps=1e-6)
        self.mlp = Mlp(dim, dim * mlp_ratio)
        self.layer_scale = layer_scale
        if layer_scale:
            self.gamma_1 = nn.Parameter(torch.full((dim,), 1e-6))
            self.gamma_2 = nn.Parameter(torch.full((dim,), 1e-6))


class GlobalBlock(AttentionBlock):
    """Global relation aggregator (paper section 3.3): a map of C channels in, the same out."""

    def forward(self, x: Tensor) -> Tensor:
        x = x + self.pos_embed(x)
        size = x.shape[2:]
        x = to_tokens(x)
        attended = self.attend(self.norm1(x), size)
        x = x + (self.gamma_1 * attended if self.layer_scale else attended)
        fed = self.mlp(self.norm2(x))
        x = x + (self.gamma_2 * fed if self.layer_scale else fed)
        return to_map(x, size)

    def attend(self, tokens: Tensor, _size: torch.Size) -> Tensor:
        """Return what attention makes of the tokens (B, N, C) of a map of that size."""
        out: Tensor = self.attn(tokens)
        return out


class WindowBlock(GlobalBlock):
    """Global block whose attention keeps within square windows (paper section 4.3): an image's map in, the same out."""

    def __init__(self, dim: int, head_dim: int, mlp_ratio: int, layer_scale: bool, window_size: int) -> None:
        super().__init__(dim, head_dim, mlp_ratio, layer_scale, is_video=False)
        self.window_size = window_size

    def attend(self, tokens: Tensor, size: torch.Size) -> Tensor:
        height, width = size
        dim, side = tokens.shape[2], self.window_size
        plane = tokens.reshape(-1, height, width, dim)  # (B, N, C) -> (B, H, W, C)
        # The last windows are filled up with zeros, and no mask hides these: what the projections make of a zero, their
        # bias, is a key like any other, as in the authors' code.
        rows, columns = (height + side - 1) // side, (width + side - 1) // side
        plane = nn.functional.pad(plane, (0, 0, 0, columns * side - width, 0, rows * side - height))
        # (B, H, W, C) -> (B * rows, side, columns, side * C) -> (B * rows, columns, side, side * C)
        windows = plane.reshape(-1, side, columns, side * dim).transpose(1, 2)
        windows = self.attn(windows.reshape(-1, side * side, dim))  # (B * rows * columns, side * side, C)
        windows = windows.reshape(-1, columns, side, side * dim).transpose(1, 2)
        plane = windows.reshape(-1, rows * side, columns * side, dim)  # (B, H, W, C), padded
        out: Tensor = plane[:, :height, :width].flatten(1, 2)  # (B, N, C)
        return out


class PatchEmbed(nn.Module):
    """Non-overlapping patches: a convolution with stride = spatial kernel, then LayerNorm over channels.

    In video only the first one touches time: kernel 3, stride 2, padding 1.
    """

    def __init__(self, in_dim: int, dim: int, patch: int, is_video: bool, reduce_time: bool = False) -> None:
        super().__init__()
        self.norm = ChannelsFirstLayerNorm(dim)
        if not is_video:
            self.proj: nn.Module = nn.Conv2d(in_dim, dim, patch, stride=patch)
        elif reduce_time:
            self.proj = nn.Conv3d(in_dim, dim, (3, patch, patch), stride=(2, patch, patch), padding=(1, 0, 0))
        else:
            self.proj = nn.Conv3d(in_dim, dim, (1, patch, patch), stride=(1, patch, patch))

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.norm(self.proj(x))
        return out


class ConvStem(nn.Module):
    """First stage's stem of the S-plus image models: two 3x3 stride-2 convolutions, BatchNorm in place of LayerNorm."""

    def __init__(self, in_dim: int, dim: int) -> None:
        super().__init__()
        self.proj = nn.Sequential(
            nn.Conv2d(in_dim, dim // 2, 3, stride=2, padding=1),
            nn.BatchNorm2d(dim // 2),
            nn.GELU(),
            nn.Conv2d(dim // 2, dim, 3, stride=2, padding=1),
            nn.BatchNorm2d(dim),
        )

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.proj(x)
        return out


class ConvDownsample(nn.Module):
    """Step between stages of the S-plus image models: one 3x3 stride-2 convolution and BatchNorm."""

    def __init__(self, in_dim: int, dim: int) -> None:
        super().__init__()
        self.proj = nn.Sequential(nn.Conv2d(in_dim, dim, 3, stride=2, padding=1), nn.BatchNorm2d(dim))

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.proj(x)
        return out


def patch_embeds(config: UniFormerConfig) -> list[nn.Module]:
    """Return the four downsampling steps, /4 and then three times /2."""
    dims = config.embed_dims
    if config.stem == "conv":
        return [ConvStem(3, dims[0]), *(ConvDownsample(a, b) for a, b in pairwise(dims))]
    first = PatchEmbed(3, dims[0], 4, config.is_video, reduce_time=True)
    return [first, *(PatchEmbed(a, b, 2, config.is_video) for a, b in pairwise(dims))]


# ---------------------------------------------------------------------------------------------------------------------
# Network


class UniFormerBackbone(Backbone):
    """The four stages of UniFormer, for dense prediction and as the base of the classifier.

    Maps are rounded down to whole patches, with the conv stem up. Video leaves with half its frames, rounded up.
    """

    config: UniFormerConfig

    def __init__(self, config: UniFormerConfig) -> None:
        super().__init__()
        check_config(config)
        self.config = config
        self.patch_embed1, self.patch_embed2, self.patch_embed3, self.patch_embed4 = patch_embeds(config)
        self.blocks1, self.blocks2, self.blocks3, self.blocks4 = (
            nn.ModuleList(self._block(stage, block) for block in range(config.depths[stage])) for stage in range(4)
        )

    def _block(self, stage: int, block: int) -> nn.Module:
        config = self.config
        dim, scaled = config.embed_dims[stage], config.layer_scale[stage]
        if stage < 2:
            return LocalBlock(dim, config.mlp_ratio, scaled, config.is_video)
        if config.is_windowed(stage, block):
            return WindowBlock(dim, config.head_dim, config.mlp_ratio, scaled, config.window_size)
        return GlobalBlock(dim, config.head_dim, config.mlp_ratio, scaled, config.is_video)

    def forward_stages(self, x: Tensor) -> list[Tensor]:
        stages = []
        for embed, blocks in (
            (self.patch_embed1, self.blocks1),
            (self.patch_embed2, self.blocks2),
            (self.patch_embed3, self.blocks3),
            (self.patch_embed4, self.blocks4),
        ):
            x = embed(x)
            for block in blocks:
                x = block(x)
            stages.append(x)
        return stages


class UniFormer(UniFormerBackbone):
    """UniFormer classifier.

    Input: float32, normalised; (B, 3, H, W) or (B, 3, T, H, W). Output: logits (B, num_classes).
    """

    def __init__(self, config: UniFormerConfig) -> None:
        super().__init__(config)
        self.norm = batch_norm(config.is_video)(config.embed_dims[3])
        self.head = nn.Linear(config.embed_dims[3], config.num_classes)
        if config.token_labeling:
            self.aux_head = nn.Linear(config.embed_dims[3], config.num_classes)

    def forward_features(self, x: Tensor) -> Tensor:
        """Return the last stage's normalised map, (B, C, H/32, W/32) or (B, C, T/2, H/32, W/32)."""
        out: Tensor = self.norm(self.forward_stages(x)[-1])
        return out

    def forward_head(self, features: Tensor) -> Tensor:
        """Return logits (B, num_classes) of the map of `forward_features`."""
        tokens = to_tokens(features)
        logits: Tensor = self.head(tokens.mean(dim=1))
        if self.config.token_labeling:
            # Each class takes its most convinced token; the factor is the authors' (REPO token_labeling, eval mode).
            logits = logits + 0.5 * self.aux_head(tokens).amax(dim=1)
        return logits

    def forward(self, x: Tensor) -> Tensor:
        return self.forward_head(self.forward_features(x))


class DenseUniFormer(DenseBackbone, UniFormerBackbone):
    """UniFormer for dense prediction.

    Input: float32, normalised, (B, 3, H, W); any height and width from 32 on, with the conv stem from 1 on. Output:
    four maps, float32, (B, C, H/4, W/4) to (B, C, H/32, W/32), rounded as the backbone's.
    """


# ---------------------------------------------------------------------------------------------------------------------
# Variants: architectures

SMALL = UniFormerConfig(num_classes=1000, depths=(3, 4, 8, 3))
SMALL_PLUS = UniFormerConfig(num_classes=1000, depths=(3, 5, 9, 3), head_dim=32, stem="conv")
BASE = UniFormerConfig(num_classes=1000, depths=(5, 8, 20, 7))
LARGE = UniFormerConfig(
    num_classes=1000, depths=(5, 10, 24, 7), embed_dims=(128, 192, 448, 640), layer_scale=(True, True, True, True)
)
# Sized for the generated clips of demo/: well under 3 M parameters and 1 GMAC at 8 x 96 x 96.
TINY = UniFormerConfig(
    num_classes=11,
    depths=(1, 2, 3, 1),
    embed_dims=(32, 64, 128, 192),
    head_dim=32,
    mlp_ratio=3,
    num_frames=8,
    input_size=96,
)
# The same for its generated pictures, under a segmentation head (models/segmentation.py).
TINY_IMAGE = replace(TINY, num_frames=None, stem="conv")

# ---------------------------------------------------------------------------------------------------------------------
# Variants: weights
# Preprocessing: REPO image_classification/main.py, token_labeling/validate.py, video_classification/slowfast/datasets;
# protocol: exp/*/test.yaml and run.sh. Figures: the READMEs, one row a file.
# Frames of Something-Something and HMDB51 are read with OpenCV and never turned to RGB by the authors' loader.

OFFICIAL = "linked from the model zoo tables in the README files of github.com/Sense-X/UniFormer"
LICENCE = "code under Apache-2.0 (Sense-X/UniFormer); weights as released by the authors"


def _video(
    dataset: str,
    labels: str,
    sampling: Sampling,
    views: Views,
    published: Published | None,
    checkpoint: str | None,
    channels: Literal["rgb", "bgr"],
) -> Weights:
    return Weights(
        task="video_classification",
        dataset=dataset,
        labels=labels,
        preprocessing=Preprocessing(224, (224, 224), "bilinear", (0.45,) * 3, (0.225,) * 3, channels),
        sampling=sampling,
        views=views,
        published=published,
        checkpoint=checkpoint,
        origin=OFFICIAL,
        licence=LICENCE,
    )


def _register_images() -> None:
    readme = "image_classification/README.md"
    plain = {
        "uniformer_s_in1k": (SMALL, 22, 3.6, 82.9, "uniformer_small_in1k.pth"),
        "uniformer_s_plus_in1k": (SMALL_PLUS, 24, 4.2, 83.4, "uniformer_small_plus_in1k.pth"),
        "uniformer_s_plus_dim64_in1k": (
            replace(SMALL_PLUS, head_dim=64),
            24,
            4.2,
            83.4,
            "uniformer_small_plus_dim64_in1k.pth",
        ),
        "uniformer_b_in1k": (BASE, 50, 8.3, 83.8, "uniformer_base_in1k.pth"),
        "uniformer_b_ls_in1k": (
            replace(BASE, layer_scale=(False, False, True, True)),
            50,
            8.3,
            83.9,
            "uniformer_base_ls_in1k.pth",
        ),
    }
    for name, (config, params, gflops, top1, checkpoint) in plain.items():
        weights = imagenet_weights(
            224, Published(params, gflops, top1, readme), checkpoint=checkpoint, origin=OFFICIAL, licence=LICENCE
        )
        register_variant(name, UniFormer, config, weights)

    # Token Labeling checkpoints use 32 channels a head in S, S-plus and B, whatever their plain siblings use.
    # Their crop fraction is timm's default 0.9. The mean and std of their evaluation (REPO image_classification,
    # token_labeling/validate.py) depend on the timm release and the authors pin none; ImageNet statistics are taken
    # here.
    token_labeling = {
        "s": (replace(SMALL, head_dim=32), 22, (3.6, 83.4), (11.9, 84.6)),
        "s_plus": (SMALL_PLUS, 24, (4.2, 83.9), (13.7, 84.9)),
        "b": (replace(BASE, head_dim=32), 50, (8.3, 85.1), (27.2, 86.0)),
        "l": (LARGE, 100, (12.6, 85.6), (39.2, 86.3)),
    }
    for size_name, (config, params, at_224, at_384) in token_labeling.items():
        config = replace(config, token_labeling=True)
        for size, suffix, (gflops, top1) in ((224, "", at_224), (384, "_384", at_384)):
            weights = imagenet_weights(
                size,
                Published(params, gflops, top1, readme),
                checkpoint=None,
                origin=OFFICIAL,
                licence=LICENCE,
                crop_share=0.9,
            )
            name = f"uniformer_{size_name}_tl{suffix}_in1k"
            register_variant(name, UniFormer, replace(config, input_size=size), weights)


def _register_kinetics() -> None:
    readme = "video_classification/README.md"
    views = Views(clips=4)
    # (name, config, frames, rate, millions of parameters, GFLOPs of all views, top-1, file)
    k400 = [
        ("s", SMALL, 8, 8, 21.4, 70, 78.4, "uniformer_small_k400_8x8.pth"),
        ("s", SMALL, 16, 4, 21.4, 167, 80.8, "uniformer_small_k400_16x4.pth"),
        ("s", SMALL, 16, 8, 21.4, 167, 80.8, "uniformer_small_k400_16x8.pth"),
        ("b", BASE, 8, 8, 49.8, 161, 79.8, "uniformer_base_k400_8x8.pth"),
        ("b", BASE, 16, 4, 49.8, 387, 82.0, "uniformer_base_k400_16x4.pth"),
        ("b", BASE, 16, 8, 49.8, 387, 81.7, "uniformer_base_k400_16x8.pth"),
        ("b", BASE, 32, 4, 49.8, 1036, 82.9, "uniformer_base_k400_32x4.pth"),
    ]
    k600 = [
        ("s", SMALL, 16, 4, 21.4, 167, 82.8, "uniformer_small_k600_16x4.pth"),
        ("s", SMALL, 16, 8, 21.4, 167, 82.7, "uniformer_small_k600_16x8.pth"),
        ("b", BASE, 16, 4, 49.8, 387, 84.0, "uniformer_base_k600_16x4.pth"),
        ("b", BASE, 16, 8, 49.8, 387, 83.4, "uniformer_base_k600_16x8.pth"),
        ("b", BASE, 32, 4, 49.8, 1036, 84.5, "uniformer_base_k600_32x4.pth"),
    ]
    for classes, table in ((400, k400), (600, k600)):
        for size, config, frames, rate, params, gflops, top1, checkpoint in table:
            weights = _video(
                f"Kinetics-{classes}",
                f"kinetics{classes}_uniformer",
                Sampling("dense", frames, rate),
                views,
                Published(params, gflops, top1, readme),
                checkpoint,
                channels="rgb",
            )
            name = f"uniformer_{size}_{frames}x{rate}_k{classes}"
            register_variant(name, UniFormer, replace(config, num_frames=frames), weights)


def _register_something_something() -> None:
    readme = "video_classification/README.md, Kinetics-600 pre-training"
    views = Views(crops=3, single_crop="first")
    table = [
        ("s", SMALL, 16, 21.3, 125, {"ssv1": 57.6, "ssv2": 69.4}),
        ("s", SMALL, 32, 21.3, 329, {"ssv1": 59.9, "ssv2": 70.4}),
        ("b", BASE, 16, 49.7, 290, {"ssv1": 58.8, "ssv2": 70.2}),
        ("b", BASE, 32, 49.7, 777, {"ssv1": 61.0, "ssv2": 71.2}),
    ]
    for size, config, frames, params, gflops, accuracies in table:
        for dataset, top1 in accuracies.items():
            file_size = {"s": "small", "b": "base"}[size]
            weights = _video(
                f"Something-Something V{dataset[-1]}",
                dataset,
                Sampling("segments_offset", frames),
                views,
                Published(params, gflops, top1, readme),
                f"uniformer_{file_size}_sth{dataset[2:]}_{frames}_prek600.pth",
                channels="bgr",
            )
            name = f"uniformer_{size}_{frames}_{dataset}"
            register_variant(name, UniFormer, replace(config, num_frames=frames), weights)


def _register_small_datasets() -> None:
    # Both are sampled densely (paper, section 6.2). UCF101 goes through the loader of Kinetics; HMDB51 has one of its
    # own (REPO slowfast/datasets/hmdb.py), which takes the same frames, but BGR, and the first crop where one is asked
    # for. Its configuration names the 101 classes of UCF101's; the data set and its lists of clips have 51.
    sampling = Sampling("dense", 16, 4)
    readme = "video_classification/README.md, split 1, Kinetics-400 pre-training"
    figures = Published(21.3, 625, 98.3, readme)
    ucf = _video("UCF101", "ucf101", sampling, Views(clips=5, crops=3), figures, None, channels="rgb")
    figures = Published(21.3, 625, 77.5, readme)
    views = Views(clips=5, crops=3, single_crop="first")
    hmdb = _video("HMDB51", "hmdb51", sampling, views, figures, None, channels="bgr")
    register_variant("uniformer_s_16x4_ucf101", UniFormer, replace(SMALL, num_frames=16), ucf)
    register_variant("uniformer_s_16x4_hmdb51", UniFormer, replace(SMALL, num_frames=16), hmdb)


_register_images()
_register_kinetics()
_register_something_something()
_register_small_datasets()
register_variant("uniformer_tiny_shapes", UniFormer, TINY, shapes_weights("uniformer_tiny_shapes", 8, 96))

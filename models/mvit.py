"""MViT, version 1: a transformer that trades resolution for width by pooling its queries, keys and values.

Paper: Multiscale Vision Transformers (arXiv 2104.11227).
Official code: facebookresearch/SlowFast@287ec0076846560f44a9327e931a5a2360240533 (REPO below); attribute names follow
its checkpoints. The same weights under PyTorchVideo's names (facebookresearch/pytorchvideo) load as well.

Layouts: video in (B, 3, T, H, W), images in (B, 3, H, W); tokens (B, 1 + N, C), the class token first, then the
N = T*H*W patches in raster order; "map" below means patch tokens laid out as (B, C, T, H, W), T = 1 for images, or, a
frame each, as (B * T, C, H, W). The grid of patches belongs to the network: its position embeddings have that size.
"""

from __future__ import annotations

import logging
import math
from dataclasses import dataclass, replace
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional

from models.checks import check_choice, check_heads, check_minimum
from models.layers import Mlp, to_map, to_tokens
from models.registry import Network, model_entry, register_variant
from models.weights import Preprocessing, Published, Sampling, Views, Weights, imagenet_weights, shapes_weights

logger = logging.getLogger(__name__)

# ---------------------------------------------------------------------------------------------------------------------
# Configuration


@dataclass(frozen=True)
class MViTConfig:
    """Architecture of one MViT.

    Attributes:
        num_classes: Outputs of the head.
        depths: Blocks in each stage. The first block of every stage but the first halves height and width; the last
            block of every stage but the last widens to the next stage's channels.
        embed_dims: Channels of each stage.
        head_dim: Channels an attention head, the same in every stage.
        mlp_ratio: Hidden width of the feed-forward part, in multiples of the channels.
        num_frames: Frames a clip, even; None makes the image network.
        input_size: Height and width of the input, a multiple of `patch_stride`; the network takes no other size.
        patch_kernel, patch_stride, patch_padding: Spatial geometry of the patch convolution. Along time it is always
            3, 2 and 1.
        pool_mode: "conv" pools queries, keys and values by a depthwise convolution and LayerNorm, "max" by their
            maximum alone. The skip connection takes the maximum in both.
        pool_kernel: Kernel of these pools along every axis the network has, whatever the stride; None takes stride + 1
            along strided axes, 1 along the others, and no pool where no axis is strided.
        kv_stride: Spatial stride of the key and value pools in the first stage; halved by each later stage, down to 1.
        pool_at_stride_1: Whether keys and values still pass through a pool where its stride has come down to 1.
    """

    num_classes: int
    depths: tuple[int, ...] = (1, 2, 11, 2)
    embed_dims: tuple[int, ...] = (96, 192, 384, 768)
    head_dim: int = 96
    mlp_ratio: int = 4
    num_frames: int | None = None
    input_size: int = 224
    patch_kernel: int = 7
    patch_stride: int = 4
    patch_padding: int = 3
    pool_mode: Literal["conv", "max"] = "conv"
    pool_kernel: int | None = 3
    kv_stride: int = 8
    pool_at_stride_1: bool = True

    @property
    def is_video(self) -> bool:
        return self.num_frames is not None


def check_config(config: MViTConfig) -> None:
    """Refuse values that no network can be built from or run with.

    Raises:
        ValueError: Too small values, frames or size that do not divide into patches, or stages or pools that do not fit
            together.
    """
    check_minimum(config, 1, "embed_dims", "mlp_ratio", "patch_kernel", "patch_stride", "pool_kernel", "kv_stride")
    check_minimum(config, 0, "patch_padding")
    check_choice(config, "pool_mode", ("conv", "max"))
    if config.num_frames is not None and (config.num_frames < 2 or config.num_frames % 2):
        raise ValueError(
            f"num_frames={config.num_frames}: patches are two frames deep, so give a positive even number "
            "(an image model is another variant, for example mvit_b16_in1k)"
        )
    if config.input_size < config.patch_stride or config.input_size % config.patch_stride:
        raise ValueError(
            f"input_size={config.input_size}: patches lie {config.patch_stride} pixels apart, "
            f"so give a positive multiple of {config.patch_stride}"
        )
    reach = config.input_size + 2 * config.patch_padding - config.patch_kernel
    if reach // config.patch_stride + 1 != config.input_size // config.patch_stride:
        raise ValueError(
            f"patch_kernel={config.patch_kernel}, patch_padding={config.patch_padding}: with patch_stride="
            f"{config.patch_stride} they must give {config.input_size // config.patch_stride} patches a side"
        )
    if len(config.depths) != len(config.embed_dims) or min(config.depths) < 1:
        raise ValueError(
            f"depths={config.depths} and embed_dims={config.embed_dims}: give one of each a stage, depths of 1 or more"
        )
    check_heads(config.head_dim, config.embed_dims)
    if config.pool_kernel is not None and config.pool_kernel % 2 == 0:
        raise ValueError(f"pool_kernel={config.pool_kernel}: the skip connection's grid needs an odd kernel, or None")


# ---------------------------------------------------------------------------------------------------------------------
# Pooling

Grid = tuple[int, int, int]  # patches along time, height, width


@dataclass(frozen=True)
class Pooling:
    """How one tensor of a block is pooled; the stride along time is 1 everywhere in MViT."""

    mode: Literal["conv", "max"]
    kernel: Grid
    stride: int

    @property
    def strides(self) -> Grid:
        return (1, self.stride, self.stride)

    @property
    def padding(self) -> Grid:
        time, height, width = self.kernel
        return (time // 2, height // 2, width // 2)

    @property
    def spans_time(self) -> bool:
        """Whether frames are pooled together, not each by itself."""
        return self.kernel[0] > 1

    def pooled_grid(self, grid: Grid) -> Grid:
        """Return the size of a map of size `grid` after pooling by an odd kernel."""
        return (grid[0], math.ceil(grid[1] / self.stride), math.ceil(grid[2] / self.stride))


class ConvPool(nn.Conv3d):
    """Depthwise convolution, one kernel shared by all heads, which lie beside each other in the channels.

    It takes a map (B, heads * head_dim, T, H, W), or (B * T, heads * head_dim, H, W) if frames are pooled one by one.
    """

    def __init__(self, head_dim: int, pooling: Pooling) -> None:
        super().__init__(
            head_dim,
            head_dim,
            pooling.kernel,
            stride=pooling.strides,
            padding=pooling.padding,
            groups=head_dim,
            bias=False,
        )
        self.pooling = pooling

    def forward(self, x: Tensor) -> Tensor:
        channels = x.shape[1]
        kernel = self.weight.repeat(channels // self.in_channels, 1, 1, 1, 1)
        stride, padding = self.pooling.strides, self.pooling.padding
        if self.pooling.spans_time:
            return functional.conv3d(x, kernel, stride=stride, padding=padding, groups=channels)
        return functional.conv2d(x, kernel.squeeze(2), stride=stride[1:], padding=padding[1:], groups=channels)


class MaxPool(nn.Module):
    """Maximum over neighbourhoods, on maps as ConvPool's."""

    def __init__(self, pooling: Pooling) -> None:
        super().__init__()
        self.pooling = pooling

    def forward(self, x: Tensor) -> Tensor:
        kernel, stride, padding = self.pooling.kernel, self.pooling.strides, self.pooling.padding
        if self.pooling.spans_time:
            return functional.max_pool3d(x, kernel, stride=stride, padding=padding)
        return functional.max_pool2d(x, kernel[1:], stride=stride[1:], padding=padding[1:])


def pool_tokens(x: Tensor, grid: Grid, pool: ConvPool | MaxPool) -> Tensor:
    """Pool the patches of tokens (B, 1 + N, C) that lie on `grid`; the class token passes by: (B, 1 + N', C).

    A pool that does not reach across time gets each frame as a map of its own, for runtimes are faster at 2-D ones.
    """
    patches, dim = x[:, 1:], x.shape[2]
    if pool.pooling.spans_time:
        pooled = to_tokens(pool(to_map(patches, grid)))
    else:
        time, height, width = grid
        frames = patches.reshape(-1, height * width, dim)  # (B, N, C) -> (B * T, H * W, C)
        pooled = to_tokens(pool(to_map(frames, (height, width))))
        pooled = pooled.reshape(-1, time * pooled.shape[1], dim)  # (B * T, H' * W', C) -> (B, N', C)
    return torch.cat((x[:, :1], pooled), dim=1)


# ---------------------------------------------------------------------------------------------------------------------
# Blocks


class PoolingAttention(nn.Module):
    """Multi-head pooling attention (paper section 3.1): (B, 1 + N, C) -> (B, 1 + N', C), N' < N if queries pool.

    Args:
        dim: Channels C.
        head_dim: Channels a head.
        grid: Where the N patches lie.
        pool_q: How queries are pooled; None leaves them.
        pool_kv: How keys and values are, each with kernels of its own; None leaves them.
    """

    def __init__(self, dim: int, head_dim: int, grid: Grid, pool_q: Pooling | None, pool_kv: Pooling | None) -> None:
        super().__init__()
        self.head_dim = head_dim
        self.scale = head_dim**-0.5
        self.grid = grid
        self.qkv = nn.Linear(dim, dim * 3)
        self.proj = nn.Linear(dim, dim)
        self.pool_q, self.norm_q = self._pool_and_norm(pool_q)
        self.pool_k, self.norm_k = self._pool_and_norm(pool_kv)
        self.pool_v, self.norm_v = self._pool_and_norm(pool_kv)

    def _pool_and_norm(self, pooling: Pooling | None) -> tuple[ConvPool | MaxPool | None, nn.Module]:
        if pooling is None:
            return None, nn.Identity()
        if pooling.mode == "max":
            return MaxPool(pooling), nn.Identity()
        return ConvPool(self.head_dim, pooling), nn.LayerNorm(self.head_dim, eps=1e-6)

    def _heads(self, x: Tensor, pool: ConvPool | MaxPool | None, norm: nn.Module) -> Tensor:
        """Pool and split (B, 1 + N, C) -> (B, heads, 1 + N', head_dim); the norm takes in the class token."""
        if pool is not None:
            x = pool_tokens(x, self.grid, pool)
        heads: Tensor = norm(torch.unflatten(x, 2, (-1, self.head_dim)))
        return heads.transpose(1, 2)

    def forward(self, x: Tensor) -> Tensor:
        q, k, v = self.qkv(x).chunk(3, dim=-1)
        q = self._heads(q, self.pool_q, self.norm_q)
        k = self._heads(k, self.pool_k, self.norm_k)
        v = self._heads(v, self.pool_v, self.norm_v)
        weights = ((q * self.scale) @ k.transpose(-2, -1)).softmax(dim=-1)  # (B, heads, 1 + N', 1 + N_kv)
        out: Tensor = self.proj((weights @ v).transpose(1, 2).flatten(2))  # (B, heads, ., head_dim) -> (B, ., C)
        return out


class MultiScaleBlock(nn.Module):
    """Transformer block between two scales: (B, 1 + N, dim) -> (B, 1 + N', dim_out).

    The two skip connections start from different tensors: the first pools the block's input as it came, the second,
    where the block widens, projects the normalised tensor that also feeds the MLP (paper appendix D.1).
    """

    def __init__(
        self,
        dim: int,
        dim_out: int,
        head_dim: int,
        mlp_ratio: int,
        grid: Grid,
        pool_q: Pooling | None,
        pool_kv: Pooling | None,
    ) -> None:
        super().__init__()
        self.grid = grid
        self.norm1 = nn.LayerNorm(dim, eps=1e-6)
        self.attn = PoolingAttention(dim, head_dim, grid, pool_q, pool_kv)
        # The skip's kernel is stride + 1 whatever the queries' kernel is.
        self.pool_skip = MaxPool(Pooling("max", (1, 3, 3), stride=2)) if pool_q else None
        self.norm2 = nn.LayerNorm(dim, eps=1e-6)
        self.mlp = Mlp(dim, dim * mlp_ratio, dim_out)
        self.proj = nn.Linear(dim, dim_out) if dim != dim_out else None

    def forward(self, x: Tensor) -> Tensor:
        skip = x if self.pool_skip is None else pool_tokens(x, self.grid, self.pool_skip)
        x = skip + self.attn(self.norm1(x))
        normed = self.norm2(x)
        skip = x if self.proj is None else self.proj(normed)
        out: Tensor = skip + self.mlp(normed)
        return out


class PatchEmbed(nn.Module):
    """Overlapping patches: (B, 3, T, H, W) or (B, 3, H, W) -> (B, N, D)."""

    def __init__(self, config: MViTConfig) -> None:
        super().__init__()
        dim, kernel, stride, padding = (
            config.embed_dims[0],
            config.patch_kernel,
            config.patch_stride,
            config.patch_padding,
        )
        if config.is_video:
            self.proj: nn.Module = nn.Conv3d(
                3, dim, (3, kernel, kernel), stride=(2, stride, stride), padding=(1, padding, padding)
            )
        else:
            self.proj = nn.Conv2d(3, dim, kernel, stride=stride, padding=padding)

    def forward(self, x: Tensor) -> Tensor:
        return to_tokens(self.proj(x))


class ClassHead(nn.Module):
    """The linear classifier, (B, C) -> (B, num_classes), under the name that its checkpoints give it."""

    def __init__(self, dim: int, num_classes: int) -> None:
        super().__init__()
        self.projection = nn.Linear(dim, num_classes)

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.projection(x)
        return out


# ---------------------------------------------------------------------------------------------------------------------
# Network


class MViT(Network):
    """MViT classifier.

    Input: float32, normalised; (B, 3, T, H, W) or (B, 3, H, W) of exactly the configured size. Output: logits
    (B, num_classes); the authors' evaluation code returns their softmax, for Charades their sigmoid.
    """

    config: MViTConfig

    def __init__(self, config: MViTConfig) -> None:
        super().__init__()
        check_config(config)
        self.config = config
        side = config.input_size // config.patch_stride
        grid = ((config.num_frames or 2) // 2, side, side)
        dim = config.embed_dims[0]
        self.cls_token = nn.Parameter(torch.zeros(1, 1, dim))
        if config.is_video:
            self.pos_embed_spatial = nn.Parameter(torch.zeros(1, side * side, dim))
            self.pos_embed_temporal = nn.Parameter(torch.zeros(1, grid[0], dim))
            self.pos_embed_class = nn.Parameter(torch.zeros(1, 1, dim))
        else:
            self.pos_embed = nn.Parameter(torch.zeros(1, 1 + side * side, dim))
        for parameter in self.parameters():
            nn.init.trunc_normal_(parameter, std=0.02)
        self.patch_embed = PatchEmbed(config)
        self.blocks = nn.ModuleList(self._blocks(grid))
        self.norm = nn.LayerNorm(config.embed_dims[-1], eps=1e-6)
        self.head = ClassHead(config.embed_dims[-1], config.num_classes)

    def _blocks(self, grid: Grid) -> list[MultiScaleBlock]:
        config = self.config
        blocks = []
        kv_stride = config.kv_stride
        last_stage = len(config.depths) - 1
        for stage, depth in enumerate(config.depths):
            dim = config.embed_dims[stage]
            for index in range(depth):
                pool_q = None
                if index == 0 and stage > 0:
                    # From here on keys and values need half the stride. This block's own still see the finer grid, so
                    # it attends to four times the cells of its neighbours, which the paper's text does not mention.
                    kv_stride = max(kv_stride // 2, 1)
                    pool_q = self._pooling(2)
                pool_kv = self._pooling(kv_stride) if kv_stride > 1 or config.pool_at_stride_1 else None
                widens = index == depth - 1 and stage < last_stage
                dim_out = config.embed_dims[stage + 1] if widens else dim
                blocks.append(MultiScaleBlock(dim, dim_out, config.head_dim, config.mlp_ratio, grid, pool_q, pool_kv))
                grid = pool_q.pooled_grid(grid) if pool_q else grid
        return blocks

    def _pooling(self, stride: int) -> Pooling | None:
        config = self.config
        if config.pool_kernel is None and stride == 1:
            return None
        space = config.pool_kernel or stride + 1
        time = config.pool_kernel if config.pool_kernel and config.is_video else 1
        return Pooling(config.pool_mode, (time, space, space), stride)

    def _position(self) -> Tensor:
        """Return what is added to all tokens, (1, 1 + N, D)."""
        if not self.config.is_video:
            return self.pos_embed
        return join_position(self.pos_embed_class, self.pos_embed_spatial, self.pos_embed_temporal)

    def forward(self, x: Tensor) -> Tensor:
        self._check_shape(x)
        x = self.patch_embed(x)
        x = torch.cat((self.cls_token.expand(x.shape[0], -1, -1), x), dim=1) + self._position()
        for block in self.blocks:
            x = block(x)
        logits: Tensor = self.head(self.norm(x)[:, 0])
        return logits

    def _check_shape(self, x: Tensor) -> None:
        size = self.config.input_size
        expected = (3, self.config.num_frames, size, size) if self.config.is_video else (3, size, size)
        if tuple(x.shape[1:]) != expected:
            raise ValueError(
                f"{self.name or 'MViT'} takes (batch, {', '.join(map(str, expected))}), not {tuple(x.shape)}: "
                "build the network with the num_frames and input_size that you need"
            )

    def remap_checkpoint(self, state_dict: dict[str, Tensor]) -> dict[str, Tensor]:
        """Translate PyTorchVideo's names and fit the position embeddings of a video network to its clip.

        Where the network was built with other `num_frames` or `input_size` than its name stands for, the separate
        embeddings are interpolated as the authors' loader does it (REPO slowfast/utils/checkpoint.py); the images'
        joint embedding has no such rule and is left as it is, to be refused.
        """
        # PyTorchVideo registers the pools a second time under "_attention_pool_".
        state = {_official_name(key): value for key, value in state_dict.items() if "._attention_pool_" not in key}
        _fuse_qkv(state)
        if self.config.is_video:
            self._fit_position(state)
        elif "pos_embed_temporal" in state and state["pos_embed_temporal"].shape[1] == 1:
            # PyTorchVideo's image network keeps the parts apart.
            parts = (state.pop(f"pos_embed_{part}") for part in ("class", "spatial", "temporal"))
            state["pos_embed"] = join_position(*parts)
        return state

    def _fit_position(self, state: dict[str, Tensor]) -> None:
        # Only a network that was asked for another clip than its name's bends a file; otherwise a file of a sibling
        # (32 frames offered to 16) would load in silence.
        registered = model_entry(self.name).config if self.name else self.config
        own_clip = (self.config.num_frames, self.config.input_size)
        if own_clip == (registered.num_frames, registered.input_size):
            return
        for key, resize in (("pos_embed_temporal", resize_temporal), ("pos_embed_spatial", resize_spatial)):
            offered, own = state.get(key), self.get_parameter(key)
            if offered is None or offered.ndim != 3 or offered.shape[::2] != own.shape[::2]:
                continue
            if offered.shape[1] != own.shape[1]:
                state[key] = resize(offered, own.shape[1])
                logger.warning(
                    "%s of the checkpoint has %d entries and is interpolated to the %d of %s: the weights were trained "
                    "on clips of another length or size",
                    key,
                    offered.shape[1],
                    own.shape[1],
                    self.name or "the network",
                )


def join_position(of_class: Tensor, spatial: Tensor, temporal: Tensor) -> Tensor:
    """Return the embedding of all tokens, (1, 1 + T*S, D), of its parts (1, 1, D), (1, S, D) and (1, T, D)."""
    patches = (temporal.unsqueeze(2) + spatial.unsqueeze(1)).flatten(1, 2)  # (1, T, S, D) -> (1, T*S, D)
    return torch.cat((of_class, patches), dim=1)


def resize_temporal(position: Tensor, length: int) -> Tensor:
    """Interpolate (1, T, D) linearly to (1, length, D)."""
    resized = functional.interpolate(position.transpose(1, 2), size=length, mode="linear", align_corners=False)
    return resized.transpose(1, 2)


def resize_spatial(position: Tensor, cells: int) -> Tensor:
    """Interpolate the square grid in (1, S, D) bicubically to (1, cells, D).

    Raises:
        ValueError: S is no square number.
    """
    old, new = math.isqrt(position.shape[1]), math.isqrt(cells)
    if old * old != position.shape[1]:
        raise ValueError(f"pos_embed_spatial has {position.shape[1]} entries, which make no square")
    maps = torch.unflatten(position.transpose(1, 2), 2, (old, old))  # (1, S, D) -> (1, D, side, side)
    resized = functional.interpolate(maps, size=(new, new), mode="bicubic", align_corners=False)
    return resized.flatten(2).transpose(1, 2)


PYTORCHVIDEO_PREFIXES = {
    "patch_embed.patch_model.": "patch_embed.proj.",
    "cls_positional_encoding.": "",
    "norm_embed.": "norm.",
    "head.proj.": "head.projection.",
}


def _official_name(key: str) -> str:
    for theirs, official in PYTORCHVIDEO_PREFIXES.items():
        if key.startswith(theirs):
            return official + key.removeprefix(theirs)
    return key


def _fuse_qkv(state: dict[str, Tensor]) -> None:
    """Stack separate query, key and value layers (PyTorchVideo, and the official code for a year) into one."""
    for query in [key for key in state if ".attn.q." in key]:
        parts = [query.replace(".attn.q.", f".attn.{part}.") for part in "qkv"]
        if all(part in state for part in parts):
            state[query.replace(".attn.q.", ".attn.qkv.")] = torch.cat([state.pop(part) for part in parts])


# ---------------------------------------------------------------------------------------------------------------------
# Variants: architectures

BASE = MViTConfig(num_classes=400, num_frames=16)
BASE_24 = replace(BASE, depths=(2, 3, 16, 3), num_frames=32)
# Shape of the paper's Table 3c. The padding of its patches, the heads and the key/value stride are not stated anywhere
# and were never released: those here give the paper's parameters, but 3 of its 32.9 GMACs are missing.
SMALL = MViTConfig(
    num_classes=400,
    depths=(3, 7, 6),
    embed_dims=(128, 256, 512),
    head_dim=128,
    num_frames=16,
    patch_kernel=8,
    patch_stride=8,
    patch_padding=0,
    kv_stride=4,
)
# Sized for the generated clips of demo/: patches overlap, as in the base network.
TINY = MViTConfig(
    num_classes=11,
    depths=(1, 2, 2),
    embed_dims=(48, 96, 144),
    head_dim=48,
    mlp_ratio=3,
    num_frames=8,
    input_size=64,
    patch_kernel=12,
    patch_stride=8,
    patch_padding=2,
    kv_stride=2,
)
IMAGE_16 = MViTConfig(num_classes=1000, kv_stride=4)
IMAGE_24 = replace(IMAGE_16, depths=(2, 3, 16, 3))
IMAGE_24_WIDE = replace(IMAGE_24, embed_dims=(112, 224, 448, 896), head_dim=112, input_size=320)
# The paper's max pools are as large as their stride needs.
BASE_MAX = replace(BASE, pool_mode="max", pool_kernel=None)
IMAGE_16_MAX = replace(IMAGE_16, pool_mode="max", pool_kernel=None)
IMAGE_24_MAX = replace(IMAGE_24, pool_mode="max", pool_kernel=None)

# ---------------------------------------------------------------------------------------------------------------------
# Variants: weights
# Preprocessing and protocol: REPO slowfast/datasets and configs, paper sections 4 and D. Figures: the paper's tables;
# the accuracy is the model zoo's where the entry names a file of it. GFLOPs are multiply-adds of all views.

LICENCE = "code under Apache-2.0 (facebookresearch/SlowFast, facebookresearch/pytorchvideo); weights as released"
SLOWFAST = "linked from MODEL_ZOO.md of github.com/facebookresearch/SlowFast"
PYTORCHVIDEO = "https://dl.fbaipublicfiles.com/pytorchvideo/model_zoo"
UNRELEASED = "the authors have released no weights of this variant"


def _video(
    dataset: str,
    labels: str,
    sampling: Sampling,
    views: Views,
    published: Published,
    checkpoint: str | None = None,
    origin: str = UNRELEASED,
) -> Weights:
    # One centre crop is cut from a short side of 256. Three crops cover the short side whole: the code scales it to
    # the crop's 224 there, although the paper speaks of 256.
    return Weights(
        task="video_classification",
        dataset=dataset,
        labels=labels,
        preprocessing=Preprocessing(
            256 if views.crops == 1 else 224, (224, 224), "bilinear", (0.45,) * 3, (0.225,) * 3
        ),
        sampling=sampling,
        views=views,
        published=published,
        checkpoint=checkpoint,
        origin=origin,
        licence=LICENCE,
        multi_label=views.combine == "max_sigmoid",
    )


def _register_kinetics() -> None:
    five_clips = Views(clips=5, combine="mean_softmax")
    nine_views = Views(clips=3, crops=3, combine="mean_softmax")
    zoo = "{}; parameters and FLOPs: paper, Table {}"
    # (name, config, rate, views, figures, file, where from)
    k400 = [
        (
            "mvit_b_16x4_k400",
            BASE,
            4,
            five_clips,
            Published(36.6, 352.5, 78.85, zoo.format("PyTorchVideo model zoo", 4)),
            "MVIT_B_16x4.pyth",
            f"{PYTORCHVIDEO}/kinetics/MVIT_B_16x4.pyth",
        ),
        (
            # Made before keys and values were pooled at stride 1. The code of that time had eps 1e-5 in the pools'
            # norms; the golden file is of today's code with 1e-6, which changes logits by 4e-5.
            "mvit_b_16x4_release_k400",
            replace(BASE, pool_at_stride_1=False),
            4,
            five_clips,
            Published(36.6, 352.5, 78.4, "paper, Table 4"),
            None,
            f"Google Drive file 194gJinVejq6A1FmySNKQ8vAN5-FOY-QL, {SLOWFAST}",
        ),
        (
            "mvit_b_16x4_max_k400",
            BASE_MAX,
            4,
            five_clips,
            Published(36.5, 352.5, 77.2, "paper, Table 16"),
            None,
            UNRELEASED,
        ),
        (
            "mvit_b_32x3_k400",
            replace(BASE, num_frames=32),
            3,
            five_clips,
            Published(36.6, 850, 80.3, zoo.format("PyTorchVideo model zoo", 4)),
            "MVIT_B_32x3_f294077834.pyth",
            f"{PYTORCHVIDEO}/kinetics/MVIT_B_32x3_f294077834.pyth",
        ),
        (
            "mvit_b_64x3_k400",
            replace(BASE, num_frames=64),
            3,
            nine_views,
            Published(36.6, 4095, 81.2, "paper, Table 4"),
            None,
            UNRELEASED,
        ),
        ("mvit_s_16x4_k400", SMALL, 4, five_clips, Published(26.1, 164.5, 76.0, "paper, Table 4"), None, UNRELEASED),
    ]
    for name, config, rate, views, published, checkpoint, origin in k400:
        assert config.num_frames is not None
        sampling = Sampling("dense", config.num_frames, rate, target_fps=30)
        weights = _video("Kinetics-400", "kinetics400", sampling, views, published, checkpoint, origin)
        register_variant(name, MViT, config, weights)

    # The released configuration of the 24-block network leaves the kernel at stride + 1, unlike the 16-block ones.
    weights = _video(
        "Kinetics-600",
        "kinetics600",
        Sampling("dense", 32, 3, target_fps=30),
        five_clips,
        Published(52.9, 1180, 83.9, zoo.format("SlowFast MODEL_ZOO.md", 5)),
        "k600.pyth",
        f"https://dl.fbaipublicfiles.com/pyslowfast/model_zoo/mvit/k600.pyth, {SLOWFAST}",
    )
    register_variant("mvit_b24_32x3_k600", MViT, replace(BASE_24, pool_kernel=None), weights)


def _register_something_something() -> None:
    table = "paper, Table 6, Kinetics-600 pre-training"
    variants = {
        "mvit_b_16x4_ssv2": (BASE, Published(36.6, 211.5, 66.2, table)),
        "mvit_b24_32x3_ssv2": (BASE_24, Published(53.2, 708, 68.7, table)),
    }
    for name, (config, published) in variants.items():
        assert config.num_frames is not None
        sampling = Sampling("segments_middle", config.num_frames)
        views = Views(crops=3, single_crop="first", combine="mean_softmax")
        register_variant(name, MViT, config, _video("Something-Something V2", "ssv2", sampling, views, published))


def _register_charades() -> None:
    published = Published(36.4, 2115, 43.9, "paper, Table 7, Kinetics-600 pre-training", metric="mAP")
    views = Views(clips=10, crops=3, single_crop="first", combine="max_sigmoid")
    weights = _video("Charades", "charades", Sampling("dense_stride", 16, 4), views, published)
    register_variant("mvit_b_16x4_charades", MViT, BASE, weights)


def _register_images() -> None:
    table = "paper, Table 17"
    b16_origin = f"{PYTORCHVIDEO}/imagenet/MVIT_B_16_f292487636.pyth; also as a Google Drive file, {SLOWFAST}"
    # (name, config, figures, file, where from)
    variants = [
        ("mvit_b16_in1k", IMAGE_16, Published(37.0, 7.8, 83.0, table), "MVIT_B_16_f292487636.pyth", b16_origin),
        ("mvit_b16_max_in1k", IMAGE_16_MAX, Published(37.0, 7.8, 82.5, table), None, UNRELEASED),
        ("mvit_b24_max_in1k", IMAGE_24_MAX, Published(53.5, 10.9, 83.1, table), None, UNRELEASED),
        ("mvit_b24_in1k", IMAGE_24, None, None, f"{UNRELEASED}, nor figures: the paper has it with max pooling only"),
        ("mvit_b24_wide_320_in1k", IMAGE_24_WIDE, Published(72.9, 32.7, 84.8, table), None, UNRELEASED),
    ]
    for name, config, published, checkpoint, origin in variants:
        weights = imagenet_weights(
            config.input_size,
            published,
            checkpoint=checkpoint,
            origin=origin,
            licence=LICENCE,
            combine="mean_softmax",
        )
        register_variant(name, MViT, config, weights)


_register_kinetics()
_register_something_something()
_register_charades()
_register_images()
register_variant("mvit_tiny_shapes", MViT, TINY, shapes_weights("mvit_tiny_shapes", 8, 64))

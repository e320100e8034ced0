"""Light UniFormer (XXS, XS): hourglass blocks that shrink the tokens before attention and recover them after it.

Paper: UniFormer: Unifying Convolution and Self-attention for Visual Recognition (arXiv 2201.09450), section 5.
Official code: Sense-X/UniFormer@52a0415e4e0dda880fab8ffbc710e4d8e171149d (REPO below), uniformer_light.py of
image_classification and uniformer_light{,_fp32,_ls_fp32}.py of video_classification; attribute names follow its
checkpoints.

Layouts: images (B, C, H, W), video (B, C, T, H, W), tokens (B, N, C) with N = T*H*W in raster order. "Map" below means
either of the first two. Beside the map two things travel from block to block in stages 3 and 4: the class token
(B, 1, C), the paper's score token, and the scores (B, N), how much that token cares for each position.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from torch import Tensor, nn

from models.backbone import Backbone, DenseBackbone
from models.checks import check_heads, check_minimum, check_stages
from models.layers import to_map, to_tokens
from models.registry import register_variant
from models.uniformer import LICENCE, OFFICIAL, AttentionBlock, ConvStem, LocalBlock, PatchEmbed, batch_norm
from models.weights import Preprocessing, Published, Sampling, Views, Weights, imagenet_weights, shapes_weights

# ---------------------------------------------------------------------------------------------------------------------
# Configuration


@dataclass(frozen=True)
class UniFormerLightConfig:
    """Architecture of one light UniFormer.

    Attributes:
        num_classes: Outputs of the head.
        depths: Blocks in each of the four stages; stages 1 and 2 are local, 3 and 4 hourglass.
        embed_dims: Channels of each stage.
        head_dim: Channels an attention head. It leaves no trace in a checkpoint's shapes, so it must be right here.
        mlp_ratio: Hidden width of the feed-forward part, in multiples of the channels.
        num_frames: Frames a clip; None makes the image network.
        input_size: Height and width of the input the weights were trained at; the network takes any size from 64 on.
        layer_scale: For each stage, whether its blocks scale their branches by learned vectors.
    """

    num_classes: int
    depths: tuple[int, int, int, int]
    embed_dims: tuple[int, int, int, int]
    head_dim: int
    mlp_ratio: int = 3
    num_frames: int | None = None
    input_size: int = 224
    layer_scale: tuple[bool, bool, bool, bool] = (False, False, False, False)

    @property
    def is_video(self) -> bool:
        return self.num_frames is not None


def check_config(config: UniFormerLightConfig) -> None:
    """Refuse values that no network can be built from or run with.

    Raises:
        ValueError: Too few or too small values, heads that do not divide the channels, or what images do not have.
    """
    check_stages(config, "depths", "embed_dims", "layer_scale")
    check_minimum(config, 0, "depths")
    if config.depths[2] < 1:
        raise ValueError(f"depths={config.depths}: the scores come into being in stage 3, so give it 1 block or more")
    check_minimum(config, 1, "embed_dims", "mlp_ratio", "num_frames")
    check_heads(config.head_dim, config.embed_dims[2:])
    if config.input_size < 64:
        raise ValueError(f"input_size {config.input_size} leaves too few tokens to choose from: give 64 or more")
    if any(config.layer_scale) and not config.is_video:
        raise ValueError("layer scale exists for light video models only: set num_frames or leave layer_scale unset")


# ---------------------------------------------------------------------------------------------------------------------
# Blocks


class VideoConvStem(nn.Module):
    """First stage's stem of the video models: two 3x3x3 convolutions, /4 in space and /2 in time, BatchNorm."""

    def __init__(self, in_dim: int, dim: int) -> None:
        super().__init__()
        self.proj = nn.Sequential(
            nn.Conv3d(in_dim, dim // 2, 3, stride=(1, 2, 2), padding=1),
            nn.BatchNorm3d(dim // 2),
            nn.GELU(),
            nn.Conv3d(dim // 2, dim, 3, stride=2, padding=1),
            nn.BatchNorm3d(dim),
        )

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.proj(x)
        return out


class TokenMixer(AttentionBlock):
    """What the two kinds of block in stages 3 and 4 share: how they mix a sequence."""

    def mix(self, sequence: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Run attention and feed-forward part on (B, N, C).

        Returns:
            The new sequence (B, N, C), what both branches together added to its last token (B, 1, C), and how much
            its first token attended to each token (B, N).
        """
        q, k, v = self.attn.project(self.norm1(sequence))
        attended = self.attn.attend(q, k, v)
        # The softmax row of the class token as it is, its own column included in the denominator (the authors' code,
        # where the paper's equation 9 says similarity), averaged over the heads. It is computed a second time by
        # itself: runtimes have one kernel for a whole attention, if nothing else wants the weights inside.
        scores = (q[:, :, :1] @ k).softmax(dim=-1).mean(dim=1).squeeze(1)
        attended = self.gamma_1 * attended if self.layer_scale else attended
        sequence = sequence + attended
        fed = self.mlp(self.norm2(sequence))
        fed = self.gamma_2 * fed if self.layer_scale else fed
        return sequence + fed, attended[:, -1:] + fed[:, -1:], scores


class ScoringBlock(TokenMixer):
    """First block of stage 3: all tokens take part, and the scores come into being."""

    def forward(self, x: Tensor, class_token: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Take a map and the class token (B, 1, C); return both, and the scores (B, N)."""
        x = x + self.pos_embed(x)
        tokens = to_tokens(x)
        sequence, _, scores = self.mix(torch.cat([class_token, tokens], dim=1))
        class_token, tokens = sequence[:, :1], sequence[:, 1:]
        return to_map(tokens, x.shape[2:]), class_token, scores[:, 1:]


class HourglassBlock(TokenMixer):
    """Every later block (paper section 5.1): the better-scored half of the tokens, and one token for all the others.

    The authors' code concatenates positions to the features as floats, sorts twice and keeps the scores in a global
    variable; here the positions stay integers, one top-k chooses, and the scores are passed in and out.
    """

    def forward(self, x: Tensor, class_token: Tensor, scores: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Take a map, the class token (B, 1, C) and the scores (B, N); return all three renewed."""
        x = x + self.pos_embed(x)
        tokens = to_tokens(x)
        b, n, c = tokens.shape
        if n < 3:
            raise ValueError(
                f"{n} tokens are left in this stage and choosing among them takes 3: give larger frames or more of them"
            )
        best_scores, best = scores.topk(n // 2, dim=1)  # both (B, N // 2)

        # The rest is merged into one token, weighted by its scores.
        merged_scores = scores.scatter(1, best, torch.zeros_like(best_scores))
        shares = merged_scores / merged_scores.sum(dim=1, keepdim=True)
        merged = shares.unsqueeze(1) @ tokens  # (B, 1, N) @ (B, N, C) -> (B, 1, C)

        # Rows of the flattened batch: whole rows are gathered and scattered many times faster than single elements.
        rows = (best + n * torch.arange(b, device=best.device).unsqueeze(1)).flatten()  # (B * (N // 2),)
        kept = tokens.reshape(-1, c).index_select(0, rows).reshape(b, n // 2, c)

        sequence, change, attention = self.mix(torch.cat([class_token, kept, merged], dim=1))
        class_token, kept = sequence[:, :1], sequence[:, 1:-1]

        # A merged token keeps its own value and takes on only what the one for all has changed by. The paper speaks of
        # replicating that one; this is what the authors' code does.
        tokens = (tokens + change).reshape(-1, c).index_copy(0, rows, kept.reshape(-1, c)).reshape(b, n, c)
        scores = scores.scatter(1, best, 0.5 * best_scores + 0.5 * attention[:, 1:-1])
        return to_map(tokens, x.shape[2:]), class_token, scores


def pool_scores(scores: Tensor, size: tuple[int, ...]) -> Tensor:
    """Average the scores (B, N) of a map of `size` (..., H, W) over 2x2 patches, keeping their sum: (B, N / 4)."""
    planes = scores.reshape(scores.shape[0], -1, *size[-2:])  # (B, N) -> (B, T or 1, H, W)
    pooled = nn.functional.avg_pool2d(planes, 2).flatten(1)
    return pooled * (scores.sum(dim=1, keepdim=True) / pooled.sum(dim=1, keepdim=True))


# ---------------------------------------------------------------------------------------------------------------------
# Network


class UniFormerLightBackbone(Backbone):
    """The four stages of a light UniFormer, for dense prediction and as the base of the classifier.

    Maps are rounded up to 1/4 and from there down. Video leaves with half its frames, rounded up.
    """

    config: UniFormerLightConfig

    def __init__(self, config: UniFormerLightConfig) -> None:
        super().__init__()
        check_config(config)
        self.config = config
        dims, is_video = config.embed_dims, config.is_video
        self.cls_token = nn.Parameter(torch.zeros(1, 1, dims[2]))
        self.patch_embed1 = VideoConvStem(3, dims[0]) if is_video else ConvStem(3, dims[0])
        self.patch_embed2 = PatchEmbed(dims[0], dims[1], 2, is_video)
        self.patch_embed3 = PatchEmbed(dims[1], dims[2], 2, is_video)
        self.patch_embed4 = PatchEmbed(dims[2], dims[3], 2, is_video)
        self.cls_upsample = nn.Linear(dims[2], dims[3])
        self.blocks1, self.blocks2 = self._local_stage(0), self._local_stage(1)
        self.blocks3 = nn.ModuleList([self._block(ScoringBlock, 2)])
        self.blocks3.extend(self._block(HourglassBlock, 2) for _ in range(config.depths[2] - 1))
        self.blocks4 = nn.ModuleList(self._block(HourglassBlock, 3) for _ in range(config.depths[3]))

    def _local_stage(self, index: int) -> nn.ModuleList:
        config = self.config
        dim, scaled = config.embed_dims[index], config.layer_scale[index]
        blocks = [LocalBlock(dim, config.mlp_ratio, scaled, config.is_video) for _ in range(config.depths[index])]
        return nn.ModuleList(blocks)

    def _block(self, kind: type[TokenMixer], index: int) -> TokenMixer:
        config = self.config
        return kind(
            config.embed_dims[index], config.head_dim, config.mlp_ratio, config.layer_scale[index], config.is_video
        )

    def forward_stages(self, x: Tensor) -> list[Tensor]:
        stages = []
        for embed, blocks in ((self.patch_embed1, self.blocks1), (self.patch_embed2, self.blocks2)):
            x = embed(x)
            for block in blocks:
                x = block(x)
            stages.append(x)

        x = self.patch_embed3(x)
        first, *others = self.blocks3
        x, class_token, scores = first(x, self.cls_token.repeat(x.shape[0], 1, 1))
        for block in others:
            x, class_token, scores = block(x, class_token, scores)
        stages.append(x)

        class_token, scores = self.cls_upsample(class_token), pool_scores(scores, x.shape[2:])
        x = self.patch_embed4(x)
        for block in self.blocks4:
            x, class_token, scores = block(x, class_token, scores)
        stages.append(x)
        return stages


class UniFormerLight(UniFormerLightBackbone):
    """Light UniFormer classifier.

    Input: float32, normalised; (B, 3, H, W) or (B, 3, T, H, W). Output: logits (B, num_classes) of the averaged map.
    `norm_cls` and `head_cls` classify the class token; training wants that, official files hold it, inference does not
    use it.
    """

    def __init__(self, config: UniFormerLightConfig) -> None:
        super().__init__(config)
        dim = config.embed_dims[3]
        self.norm = batch_norm(config.is_video)(dim)
        self.norm_cls = nn.LayerNorm(dim)
        self.head = nn.Linear(dim, config.num_classes)
        self.head_cls = nn.Linear(dim, config.num_classes)

    def forward(self, x: Tensor) -> Tensor:
        features = self.norm(self.forward_stages(x)[-1])
        logits: Tensor = self.head(features.flatten(2).mean(dim=2))  # (B, C, ...) -> (B, C) -> (B, classes)
        return logits


class DenseUniFormerLight(DenseBackbone, UniFormerLightBackbone):
    """Light UniFormer for dense prediction.

    Input: float32, normalised, (B, 3, H, W); any height and width from 64 on. Output: four maps, float32,
    (B, C, H/4, W/4) to (B, C, H/32, W/32), rounded as the backbone's.
    """


# ---------------------------------------------------------------------------------------------------------------------
# Variants: architectures

XXS = UniFormerLightConfig(num_classes=1000, depths=(2, 5, 8, 2), embed_dims=(56, 112, 224, 448), head_dim=28)
XS = UniFormerLightConfig(num_classes=1000, depths=(3, 5, 9, 3), embed_dims=(64, 128, 256, 512), head_dim=32)
SCALED = (True, True, True, True)
# Sized for the generated clips of demo/: under 1 M parameters and 0.1 GMAC at 8 x 64 x 64.
TINY = UniFormerLightConfig(
    num_classes=11,
    depths=(1, 2, 3, 2),
    embed_dims=(16, 32, 80, 144),
    head_dim=16,
    num_frames=8,
    input_size=64,
)

# ---------------------------------------------------------------------------------------------------------------------
# Variants: weights
# Preprocessing: REPO image_classification/main_light.py, video_classification/slowfast/datasets; figures: the READMEs.


def _register_images() -> None:
    # (name, config, input size, millions of parameters, GFLOPs, top-1)
    table = [
        ("xxs", XXS, 128, 10.2, 0.43, 76.8),
        ("xxs", XXS, 160, 10.2, 0.67, 79.1),
        ("xxs", XXS, 192, 10.2, 0.96, 79.9),
        ("xxs", XXS, 224, 10.2, 1.3, 80.6),
        ("xs", XS, 192, 16.5, 1.4, 81.5),
        ("xs", XS, 224, 16.5, 2.0, 82.0),
    ]
    for size_name, config, size, params, gflops, top1 in table:
        weights = imagenet_weights(
            size,
            Published(params, gflops, top1, "image_classification/README.md"),
            checkpoint=f"uniformer_{size_name}_{size}_in1k.pth",
            origin=OFFICIAL,
            licence=LICENCE,
        )
        name = f"uniformer_{size_name}_{size}_in1k"
        register_variant(name, UniFormerLight, replace(config, input_size=size), weights)


def _register_kinetics() -> None:
    # (name, config, frames, input size, millions of parameters, GFLOPs, top-1). The three smallest files were trained
    # with layer scale.
    table = [
        ("xxs", replace(XXS, layer_scale=SCALED), 4, 128, 10.4, 1.0, 63.2),
        ("xxs", replace(XXS, layer_scale=SCALED), 4, 160, 10.4, 1.6, 65.8),
        ("xxs", replace(XXS, layer_scale=SCALED), 8, 128, 10.4, 2.0, 68.3),
        ("xxs", XXS, 8, 160, 10.4, 3.3, 71.4),
        ("xxs", XXS, 16, 128, 10.4, 4.2, 73.3),
        ("xxs", XXS, 16, 160, 10.4, 6.9, 75.1),
        ("xxs", XXS, 32, 160, 10.4, 15.4, 77.9),
        ("xs", XS, 32, 192, 16.7, 34.2, 78.6),
    ]
    for size_name, config, frames, size, params, gflops, top1 in table:
        weights = Weights(
            task="video_classification",
            dataset="Kinetics-400",
            labels="kinetics400_uniformer",
            preprocessing=Preprocessing(size, (size, size), "bilinear", (0.45,) * 3, (0.225,) * 3),
            # The official loader (REPO video_classification, slowfast/datasets/kinetics_sparse.py) asks its decoder
            # for "sparse" sampling, which that decoder does not know; the middle of each segment is the natural
            # reading.
            sampling=Sampling("segments_centre", frames),
            views=Views(),
            # The published parameters are those of a head with 1000 classes.
            published=Published(params, gflops, top1, "video_classification/README.md"),
            checkpoint=None,
            origin=OFFICIAL,
            licence=LICENCE,
        )
        config = replace(config, num_frames=frames, input_size=size)
        register_variant(f"uniformer_{size_name}_{frames}x{size}_k400", UniFormerLight, config, weights)


_register_images()
_register_kinetics()
register_variant(
    "uniformer_light_tiny_shapes", UniFormerLight, TINY, shapes_weights("uniformer_light_tiny_shapes", 8, 64)
)

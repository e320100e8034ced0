"""MLP-3D: CycleMLP over space, grouped time mixing (GTM) over time.

Paper: MLP-3D: A MLP-like 3D Architecture with Grouped Time Mixing (CVPR 2022).
Official code: none; ZhaofanQiu/MLP-3D@792b74ddfae9303abb767fcbaf0098a338eae45c holds a README alone, and no weights
were published. Where the paper is silent this follows CycleMLP's code (see models/cyclemlp.py) or an assumption that is
named at its place. Key names are CycleMLP's, with `attn.mlp_t` for `attn.mlp_c`.

Layouts: input (B, 3, T, H, W); tubelets of four frames become T' = T / 4 steps in time, which are folded into the
batch: planes (B * T', H, W, C) between blocks, tokens (B * T', N, C) inside them.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import cycle, islice, pairwise
from typing import Any, Literal, get_args

import torch
from torch import Tensor, nn
from torch.nn.functional import conv2d, interpolate, linear, pad

from models.checkpoint import CheckpointError
from models.checks import check_choice, check_minimum, check_stages
from models.cyclemlp import B1, B2, B3, B5, SMALLEST_SIDE, CycleMLPConfig, Downsample, SpatialMixing
from models.layers import Mlp, to_map
from models.registry import Network, fitting_models, list_models, model_entry, register_variant
from models.weights import (
    IMAGENET_MEAN,
    IMAGENET_STD,
    Preprocessing,
    Published,
    Sampling,
    Views,
    Weights,
    shapes_weights,
)

logger = logging.getLogger(__name__)

# ---------------------------------------------------------------------------------------------------------------------
# Configuration

TimeMixing = Literal["short_range", "long_range", "shift_window", "shift_token"]
TimeMixingChoice = tuple[str, int] | Sequence[tuple[str, int]]
TUBELET_FRAMES = 4

# Types that the paper compares, by its short names; two types take turns by block.
PRESETS: dict[str, tuple[TimeMixing, ...]] = {
    "sr": ("short_range",),
    "lr": ("long_range",),
    "st": ("shift_token",),
    "sr_lr": ("short_range", "long_range"),
    "sr_sw": ("short_range", "shift_window"),
}


@dataclass(frozen=True)
class MLP3DConfig:
    """Architecture of one MLP-3D.

    Attributes:
        num_classes: Outputs of the head.
        depths: Blocks in each of the four stages.
        embed_dims: Channels of each stage.
        mlp_ratios: Hidden width of each stage's feed-forward part, in multiples of the channels.
        num_frames: Frames a clip, a multiple of 4.
        input_size: Height and width of the input the weights were trained at; the network takes any size.
        gtm: Time mixing: one (type, group size) a block in network order, or one pair for all blocks, whose type may
            then be a preset: sr, lr, st, sr_lr, sr_sw. The paper's searched assignments stand in a figure only; the
            default is the type that did best alone, with a group size that comes close to the published cost.
    """

    num_classes: int
    depths: tuple[int, int, int, int]
    embed_dims: tuple[int, int, int, int]
    mlp_ratios: tuple[int, int, int, int]
    num_frames: int = 64
    input_size: int = 224
    gtm: TimeMixingChoice = ("st", 4)


@dataclass(frozen=True)
class MLP3DTwoPathConfig(MLP3DConfig):
    """Architecture of an MLP-3D of two paths; both are built alike.

    The paper says no more than that the second path sees the clip without its average frame. How the answers are
    joined, and at which size the second path looks, are assumptions here.

    Attributes:
        fusion: "logits" averages the logits, "softmax" the probabilities.
        second_path_size: Height and width that the second path's frames are resized to; None leaves them as they are.
    """

    fusion: Literal["logits", "softmax"] = "logits"
    second_path_size: int | None = None


def check_config(config: MLP3DConfig) -> None:
    """Refuse values that no network can be built from or run with; `gtm` and `num_frames` are refused where they count.

    Raises:
        ValueError: Too few or too small values, or an unknown fusion.
    """
    check_stages(config, "depths", "embed_dims", "mlp_ratios")
    check_minimum(config, 0, "depths")
    check_minimum(config, 1, "embed_dims", "mlp_ratios")
    check_minimum(config, SMALLEST_SIDE, "input_size")
    if isinstance(config, MLP3DTwoPathConfig):
        check_choice(config, "fusion", ("logits", "softmax"))
        check_minimum(config, SMALLEST_SIDE, "second_path_size")


def assign_blocks(gtm: TimeMixingChoice, blocks: int) -> list[tuple[TimeMixing, int]]:
    """Return the time mixing's type and group size of each block in network order.

    Raises:
        ValueError: Not one pair a block, an unknown type, or a group size that the type does not have.
    """
    if not isinstance(gtm, Sequence):
        raise ValueError(f"gtm={gtm!r}: give one (type, group size) a block, or one pair for all")
    pairs: list[Any] = list(gtm)
    if len(pairs) == 2 and isinstance(pairs[0], str):
        kind, size = pairs
        pairs = [(one, size) for one in islice(cycle(PRESETS.get(kind, (kind,))), blocks)]
    if len(pairs) != blocks:
        raise ValueError(
            f"gtm names {len(pairs)} blocks and the network has {blocks}: give one (type, group size) a block, "
            "or one pair for all"
        )
    for pair in pairs:
        _check_pair(pair)
    return [(kind, size) for kind, size in pairs]


def _check_pair(pair: Any) -> None:
    types = get_args(TimeMixing)
    if isinstance(pair, str) or len(pair) != 2 or pair[0] not in types or not isinstance(pair[1], int) or pair[1] < 1:
        raise ValueError(
            f"gtm entry {pair!r} is no (type, group size): the types are {', '.join(types)}, sizes start at 1; "
            f"one pair for all blocks may also name {', '.join(PRESETS)}"
        )
    kind, size = pair
    if kind == "shift_window" and size > 1 and size % 2:
        raise ValueError(f"shift_window moves by half a group, and a group of {size} has no half: give an even size")


# ---------------------------------------------------------------------------------------------------------------------
# Blocks


class GroupedTimeMixing(nn.Module):
    """Linear map among the tokens of a temporal group, at each position alike (paper section 3.3).

    Tokens (B * T', N, C), same out. `weight` (M, C, C) holds one matrix for each distance in time (equation 5): groups
    of size S need the distances 1 - S .. S - 1; shift_token looks back only and needs 0 .. S - 1. A distance counts
    slots of the group, which in long_range lie T' / S steps apart. There is no bias: CycleMLP has none where this
    stands.
    """

    def __init__(self, dim: int, kind: TimeMixing, group_size: int) -> None:
        super().__init__()
        self.kind = kind
        self.group_size = group_size
        distances = group_size if kind == "shift_token" else 2 * group_size - 1
        self.zero = 0 if kind == "shift_token" else group_size - 1  # index of distance 0
        self.weight = nn.Parameter(torch.randn(distances, dim, dim) * (group_size * dim) ** -0.5)

    def read_order(self, steps: int) -> list[int]:
        """Return which of `steps` points in time each slot of each group reads, group by group.

        Raises:
            ValueError: The clip cannot be divided into groups.
        """
        size, kind = self.group_size, self.kind
        if kind == "shift_token":
            return [(t - i) % steps for t in range(steps) for i in range(size)]
        if steps % size:
            raise ValueError(
                f"{kind} wants groups of {size} and the clip has {steps} steps in time (frames / {TUBELET_FRAMES}): "
                f"give a group size that divides {steps}, or {size * TUBELET_FRAMES} frames or a multiple of that"
            )
        if kind == "long_range":
            return [slot * (steps // size) + group for group in range(steps // size) for slot in range(size)]
        shift = size // 2 if kind == "shift_window" else 0
        return [(t - shift) % steps for t in range(steps)]

    def dense_weight(self) -> Tensor:
        """Return the map of a whole group: (S * C, S * C) from slot to slot, or (C, S * C) for shift_token."""
        size, dim = self.group_size, self.weight.shape[1]
        if self.kind == "shift_token":
            return self.weight.transpose(0, 1).reshape(dim, size * dim)  # (S, out, in) -> (out, S, in) -> (C, S * C)
        slots = torch.arange(size, device=self.weight.device)
        distances = slots.unsqueeze(1) - slots.unsqueeze(0)  # (S, S): output slot, input slot
        blocks = self.weight.index_select(0, distances.flatten() + self.zero).reshape(size, size, dim, dim)
        return blocks.transpose(1, 2).reshape(size * dim, size * dim)  # (S, S, out, in) -> (S * C, S * C)

    def forward(self, x: Tensor, steps: int) -> Tensor:
        count, dim = x.shape[1:]
        order = self.read_order(steps)
        # (B * groups * S, N, C) -> (B * groups, S, N, C) -> (B * groups, N, S * C)
        groups = _take(x, order, steps).reshape(-1, self.group_size, count, dim).transpose(1, 2).flatten(2)
        mixed = linear(groups, self.dense_weight())
        if self.kind == "shift_token":
            return mixed
        # (B * groups, N, S * C) -> (B * groups, N, S, C) -> (B * T', N, C)
        mixed = torch.unflatten(mixed, 2, (self.group_size, dim)).transpose(1, 2).flatten(0, 1)
        return _take(mixed, sorted(range(steps), key=order.__getitem__), steps)


def _take(x: Tensor, order: list[int], steps: int) -> Tensor:
    """Pick points in time: (B * steps, N, C) -> (B * len(order), N, C)."""
    if order == list(range(steps)):
        return x
    _, count, dim = x.shape
    clips = x.reshape(-1, steps, count * dim)
    taken = clips.index_select(1, torch.tensor(order, device=x.device))
    return taken.reshape(-1, count, dim)  # (B, len(order), N * C) -> (B * len(order), N, C)


class TimeSpaceMixing(SpatialMixing):
    """Token mixing of MLP-3D (paper section 3.2): along width, height and time; tokens (B * T', N, C), same out.

    The three branches are weighed by an average over the whole clip, not frame by frame (an assumption).
    """

    def __init__(self, dim: int, kind: TimeMixing, group_size: int) -> None:
        super().__init__(dim)
        self.mlp_t = GroupedTimeMixing(dim, kind, group_size)

    def forward(self, x: Tensor, size: Sequence[int], steps: int) -> Tensor:
        """Take tokens of planes of `size`, of clips of as many `steps` in time."""
        return self.merge(to_map(x, size), self.mlp_t(x, steps), frames=steps)


class MLP3DBlock(nn.Module):
    """Token mixing and feed-forward part, each with its norm and residual: (B * T', H, W, C), same out."""

    def __init__(self, dim: int, mlp_ratio: int, kind: TimeMixing, group_size: int) -> None:
        super().__init__()
        self.norm1 = nn.LayerNorm(dim)
        self.attn = TimeSpaceMixing(dim, kind, group_size)
        self.norm2 = nn.LayerNorm(dim)
        self.mlp = Mlp(dim, dim * mlp_ratio)

    def forward(self, x: Tensor, steps: int) -> Tensor:
        size, tokens = x.shape[1:3], x.flatten(1, 2)
        tokens = tokens + self.attn(self.norm1(tokens), size, steps)
        tokens = tokens + self.mlp(self.norm2(tokens))
        return torch.unflatten(tokens, 1, size)


class Stage(nn.ModuleList):
    """Blocks in a row: (B * T', H, W, C), same out."""

    def forward(self, x: Tensor, steps: int) -> Tensor:
        for block in self:
            x = block(x, steps)
        return x


class TubeletEmbed(nn.Module):
    """Tubelets that overlap in space and not in time: (B, 3, T, H, W) -> (B * T', H/4, W/4, C).

    The parameters are those of a 4x7x7 convolution with stride 4. It is computed in two dimensions, with the four
    frames of a tubelet as channels: the same sums, and two-dimensional convolutions are the fast ones.
    """

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.proj = nn.Conv3d(3, dim, (TUBELET_FRAMES, 7, 7), stride=4, padding=(0, 2, 2))

    def forward(self, x: Tensor) -> Tensor:
        height, width = x.shape[3:]
        # (B, 3, T, H, W) -> (B, T, 3, H, W) -> (B * T', 4 * 3, H, W)
        tubelets = x.transpose(1, 2).reshape(-1, TUBELET_FRAMES * 3, height, width)
        weight = self.proj.weight.transpose(1, 2).flatten(1, 2)  # (C, 3, 4, 7, 7) -> (C, 4 * 3, 7, 7)
        tokens = conv2d(tubelets, weight, self.proj.bias, stride=4, padding=2)
        return tokens.permute(0, 2, 3, 1)  # (B * T', C, H/4, W/4) -> (B * T', H/4, W/4, C)


# ---------------------------------------------------------------------------------------------------------------------
# Networks


class MLP3D(Network):
    """MLP-3D classifier of one path.

    Input: float32, normalised; (B, 3, T, H, W). Output: logits (B, num_classes).
    """

    config: MLP3DConfig

    def __init__(self, config: MLP3DConfig) -> None:
        super().__init__()
        check_config(config)
        self.config = config
        steps = _count_steps(config.num_frames)
        assignment = iter(assign_blocks(config.gtm, sum(config.depths)))
        self.patch_embed = TubeletEmbed(config.embed_dims[0])
        stages = [
            Stage(MLP3DBlock(dim, ratio, *next(assignment)) for _ in range(depth))
            for dim, ratio, depth in zip(config.embed_dims, config.mlp_ratios, config.depths, strict=True)
        ]
        downsamples = [Downsample(a, b) for a, b in pairwise(config.embed_dims)]
        # Stages and the steps between them share one numbering in CycleMLP's checkpoints.
        self.network = nn.ModuleList([stages[0]])
        for downsample, stage in zip(downsamples, stages[1:], strict=True):
            self.network.extend([downsample, stage])
        self.norm = nn.LayerNorm(config.embed_dims[3])
        self.head = nn.Linear(config.embed_dims[3], config.num_classes)
        for module in self.modules():
            if isinstance(module, GroupedTimeMixing):
                module.read_order(steps)  # refuses groups that do not fit num_frames now, not at the first call

    def remap_checkpoint(self, state_dict: dict[str, Tensor]) -> dict[str, Tensor]:
        """Accept a CycleMLP checkpoint of as many classes too, with a warning, and inflate it.

        Raises:
            ValueError: It has not as many classes.
        """
        return _inflated_with_a_warning(self, state_dict) if _is_cyclemlp(state_dict) else state_dict

    def inflate(self, state_dict: dict[str, Tensor]) -> dict[str, Tensor]:
        """Return the state dict of a CycleMLP as one of this network, by centre initialisation (paper section 4.2).

        The 2-D patches go to one frame of each tubelet, channel mixing becomes time mixing at distance 0, and all that
        is new is zero: the network starts as CycleMLP on every fourth frame. Of the four frames the third is taken, as
        ViViT does (an assumption: four have no middle).
        """
        mixings = {name: module for name, module in self.named_modules() if isinstance(module, GroupedTimeMixing)}
        inflated = {}
        for key, value in state_dict.items():
            mixing = mixings.get(key.replace(".mlp_c.weight", ".mlp_t"))
            if mixing is not None:
                # (C, C) -> (M, C, C)
                around = (mixing.zero, len(mixing.weight) - 1 - mixing.zero)
                inflated[key.replace("mlp_c", "mlp_t")] = pad(value.unsqueeze(0), (0, 0, 0, 0, *around))
            elif key == "patch_embed.proj.weight":
                inflated[key] = pad(value.unsqueeze(2), (0, 0, 0, 0, 2, 1))  # (C, 3, 7, 7) -> (C, 3, 4, 7, 7)
            else:
                inflated[key] = value
        return inflated

    def forward(self, x: Tensor) -> Tensor:
        steps = _count_steps(x.shape[2])
        x = self.patch_embed(x)
        for part in self.network:
            x = part(x) if isinstance(part, Downsample) else part(x, steps)
        x = self.norm(x).mean(dim=(1, 2))  # (B * T', H/32, W/32, C) -> (B * T', C)
        x = x.reshape(-1, steps, x.shape[1]).mean(dim=1)  # (B * T', C) -> (B, C)
        logits: Tensor = self.head(x)
        return logits


def _is_cyclemlp(state_dict: dict[str, Tensor]) -> bool:
    return any(key.endswith(".attn.mlp_c.weight") for key in state_dict)


def _inflated_with_a_warning(network: MLP3D | MLP3DTwoPath, state_dict: dict[str, Tensor]) -> dict[str, Tensor]:
    classes, head = network.config.num_classes, state_dict.get("head.weight")
    if head is None or head.shape[:1] != (classes,):
        raise ValueError(
            f"it is of a CycleMLP without a head for {classes} classes, which is where training starts: "
            "models.mlp3d.initialize_from_cyclemlp takes it and keeps the network's own head"
        )
    # Networks without a name are asked only whether the file would fit them.
    if network.name:
        logger.warning(
            "the checkpoint is of a CycleMLP: %s answers as that on every fourth frame, and sees no motion before it "
            "is trained on clips",
            network.name,
        )
    return network.inflate(state_dict)


def _count_steps(num_frames: int) -> int:
    if num_frames < TUBELET_FRAMES or num_frames % TUBELET_FRAMES:
        raise ValueError(f"{num_frames} frames are no whole tubelets: give a multiple of {TUBELET_FRAMES}")
    return num_frames // TUBELET_FRAMES


class MLP3DTwoPath(Network):
    """Two MLP-3D of one kind with weights of their own, the second on the clip without its average frame.

    Input: float32, normalised; (B, 3, T, H, W). Output: logits (B, num_classes).
    """

    config: MLP3DTwoPathConfig

    def __init__(self, config: MLP3DTwoPathConfig) -> None:
        super().__init__()
        check_config(config)
        self.config = config
        self.path1, self.path2 = MLP3D(config), MLP3D(config)

    def remap_checkpoint(self, state_dict: dict[str, Tensor]) -> dict[str, Tensor]:
        """Accept a CycleMLP checkpoint of as many classes too, with a warning, and inflate it.

        Raises:
            ValueError: It has not as many classes.
        """
        return _inflated_with_a_warning(self, state_dict) if _is_cyclemlp(state_dict) else state_dict

    def inflate(self, state_dict: dict[str, Tensor]) -> dict[str, Tensor]:
        """Return the state dict of a CycleMLP as one of this network: both paths start from it."""
        inflated = self.path1.inflate(state_dict)
        return {f"{path}.{key}": value for path in ("path1", "path2") for key, value in inflated.items()}

    def forward(self, x: Tensor) -> Tensor:
        motion = x - x.mean(dim=2, keepdim=True)
        if self.config.second_path_size is not None:
            motion = resize_frames(motion, self.config.second_path_size)
        answers = torch.stack([self.path1(x), self.path2(motion)])  # (2, B, classes)
        if self.config.fusion == "softmax":
            # As a logarithm, so that the softmax of this network's output is the average of the paths' again.
            return answers.log_softmax(dim=-1).logsumexp(dim=0) - math.log(len(answers))
        return answers.mean(dim=0)


def resize_frames(x: Tensor, size: int) -> Tensor:
    """Resize each frame bilinearly: (B, 3, T, H, W) -> (B, 3, T, size, size)."""
    frames = x.transpose(1, 2).flatten(0, 1)  # (B * T, 3, H, W)
    frames = interpolate(frames, size=(size, size), mode="bilinear", align_corners=False)
    return frames.reshape(-1, x.shape[2], 3, size, size).transpose(1, 2)


def initialize_from_cyclemlp(network: MLP3D | MLP3DTwoPath, state_dict: dict[str, Tensor]) -> None:
    """Start training from a CycleMLP: centre initialisation, with the network's own head if the classes differ.

    Args:
        network: The variant that grows from the checkpoint's: XS from B1, S from B2, M from B3, L from B5.
        state_dict: What `read_checkpoint` makes of the official file.

    Raises:
        CheckpointError: It is another CycleMLP's, or none's.
    """
    own, inflated = network.state_dict(), network.inflate(state_dict) if _is_cyclemlp(state_dict) else {}
    for key, value in own.items():
        if "head." in key and key in inflated and inflated[key].shape != value.shape:
            inflated[key] = value
    if _shapes(inflated) != _shapes(own):
        given = (
            " or ".join(fitting_models(list_models(family="cyclemlp"), state_dict)) or "no CycleMLP that is known here"
        )
        raise CheckpointError(
            f"the weights are of {given}, and {network.name or type(network).__name__} grows from "
            f"{_image_network(network.config)}: give weights of that, or build the variant that grows from these"
        )
    network.load_state_dict(inflated, strict=True)


def _shapes(state_dict: dict[str, Tensor]) -> dict[str, torch.Size]:
    return {key: value.shape for key, value in state_dict.items()}


def _image_network(config: MLP3DConfig) -> str:
    """Return the name of the CycleMLP that a network grows from, or what it would have to be."""
    fields = ("depths", "embed_dims", "mlp_ratios")
    wanted = {field: getattr(config, field) for field in fields}
    for name in list_models(family="cyclemlp"):
        if {field: getattr(model_entry(name).config, field) for field in fields} == wanted:
            return name
    return f"a CycleMLP of {', '.join(f'{field}={value}' for field, value in wanted.items())}"


# ---------------------------------------------------------------------------------------------------------------------
# Variants: architectures, those of CycleMLP-B1, B2, B3 and B5 (paper, table 1)


def _grown_from(image: CycleMLPConfig) -> MLP3DConfig:
    return MLP3DConfig(image.num_classes, image.depths, image.embed_dims, image.mlp_ratios)


XS, S, M, L = (_grown_from(image) for image in (B1, B2, B3, B5))
# Sized for the generated clips of demo/, whose 16 frames are four steps in time.
TINY = MLP3DConfig(
    num_classes=11,
    depths=(1, 1, 2, 1),
    embed_dims=(32, 64, 96, 144),
    mlp_ratios=(3, 3, 3, 3),
    num_frames=16,
    input_size=64,
    gtm=("sr_lr", 2),
)

# ---------------------------------------------------------------------------------------------------------------------
# Variants: weights. None were published; protocol: paper, section 4.2; figures: tables 2 to 5. The tables speak of
# searched assignments that the paper shows in a figure only, so parameters and cost differ from this build's.

# The paper gives neither normalisation nor resize: those of CycleMLP's training and of video pipelines are assumed.
PREPROCESSING = Preprocessing(224, (224, 224), "bilinear", IMAGENET_MEAN, IMAGENET_STD)


def _weights(dataset: str, labels: str, sampling: Sampling, views: Views, published: Published | None) -> Weights:
    return Weights(
        task="video_classification",
        dataset=dataset,
        labels=labels,
        preprocessing=PREPROCESSING,
        sampling=sampling,
        views=views,
        published=published,
        checkpoint=None,
        origin="never published; a CycleMLP checkpoint gives the start for training",
        licence="no weights were published; CycleMLP's, the start for training, are under MIT (ShoufaChen/CycleMLP)",
    )


def _register_videos() -> None:
    # One clip: the middle of each of 64 segments, which repeats the frames of a short video in place. Several clips:
    # the same at several offsets; the paper does not say how far apart a Kinetics clip's frames are.
    # With no weights there is no order of classes to follow: the data sets' own alphabetical one is taken.
    one_clip = (Sampling("segments_centre", 64), Views(crops=3, combine="mean_softmax"))
    four_clips = (Sampling("segments_offset", 64), Views(clips=4, crops=3, combine="mean_softmax"))
    datasets = {
        "ssv1": ("Something-Something V1", "ssv1", *one_clip),
        "ssv2": ("Something-Something V2", "ssv2", *one_clip),
        "k400": ("Kinetics-400", "kinetics400", *four_clips),
    }
    # Table 2, 224 x 224: top-1 of one path. Tables 3 to 5: millions of parameters, GFLOPs a view and top-1 of two.
    one_path = {"ssv2": (65.4, 66.7, 67.2, 67.6), "k400": (76.5, 79.2, 79.9, 80.4)}
    two_paths = {
        "ssv1": ("table 4", (55.1, 74.1, 88.3, 149.4), (60, 108, 183, 336), (54.4, 55.2, 56.2, 56.5)),
        "ssv2": ("table 3", (55.1, 74.1, 88.3, 149.4), (60, 108, 183, 336), (66.0, 67.2, 68.0, 68.5)),
        "k400": ("table 5", (50.1, 68.5, 80.5, 135.6), (57, 102, 170, 308), (77.2, 80.2, 81.0, 81.4)),
    }
    for index, (size, config) in enumerate((("xs", XS), ("s", S), ("m", M), ("l", L))):
        for short, (dataset, labels, sampling, views) in datasets.items():
            single = None
            if short in one_path:
                single = Published(None, None, one_path[short][index], "table 2, searched assignment")
            weights = _weights(dataset, labels, sampling, views, single)
            register_variant(f"mlp3d_{size}_{short}", MLP3D, config, weights)

            table, params, gflops, top1 = two_paths[short]
            gflops_of_all = gflops[index] * views.clips * views.crops
            double = Published(params[index], gflops_of_all, top1[index], f"{table}, searched assignment")
            weights = _weights(dataset, labels, sampling, views, double)
            both = MLP3DTwoPathConfig(**vars(config))
            register_variant(f"mlp3d_{size}_twopath_{short}", MLP3DTwoPath, both, weights)


_register_videos()
register_variant("mlp3d_tiny_shapes", MLP3D, TINY, shapes_weights("mlp3d_tiny_shapes", 16, 64))

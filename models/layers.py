"""Layers that more than one family uses."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn


def to_tokens(maps: Tensor) -> Tensor:
    """Lay out a map (B, C, ...) as tokens (B, N, C).

    The axis is moved while it is still one of the map's, here and in `to_map`: in a runtime whose maps have their
    channels last in memory that is no work, and moving it among tokens is.
    """
    return maps.movedim(1, -1).flatten(1, -2)


def to_map(tokens: Tensor, size: Sequence[int]) -> Tensor:
    """Lay out tokens (B, N, C) as a map (B, C, *size) of N positions."""
    return torch.unflatten(tokens, 1, size).movedim(-1, 1)


class ChannelsFirstLayerNorm(nn.LayerNorm):
    """LayerNorm over the channel axis of a map: (B, C, ...) in, (B, C, ...) out."""

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x.movedim(1, -1)).movedim(-1, 1)


class Mlp(nn.Module):
    """Linear, exact GELU, Linear on the last axis: (..., C) -> (..., C).

    Attribute names fc1 and fc2 are those of timm's Mlp, which every family's official code took over.
    """

    def __init__(self, dim: int, hidden_dim: int, out_dim: int | None = None) -> None:
        super().__init__()
        self.fc1 = nn.Linear(dim, hidden_dim)
        self.act = nn.GELU()
        self.fc2 = nn.Linear(hidden_dim, out_dim or dim)

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.fc2(self.act(self.fc1(x)))
        return out

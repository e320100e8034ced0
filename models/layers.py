"""Layers that more than one family uses."""

from __future__ import annotations

from torch import Tensor, nn


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

"""What the backbones of dense prediction have in common, whatever their family.

Layouts: images (B, 3, H, W), video (B, 3, T, H, W), maps (B, C, H, W) or (B, C, T, H, W).
"""

from __future__ import annotations

from typing import Any, ClassVar

from torch import Tensor

from models.layers import ChannelsFirstLayerNorm
from models.registry import Network


class Backbone(Network):
    """A network of four stages, without norm and head."""

    def forward_stages(self, x: Tensor) -> list[Tensor]:
        """Return the maps of the four stages, finest first, not normalised.

        Args:
            x: float32, normalised with the weights' mean and std, (B, 3, H, W) or (B, 3, T, H, W).

        Returns:
            float32, at 1/4, 1/8, 1/16 and 1/32 of the input's height and width; each family says how it rounds.
        """
        raise NotImplementedError


class DenseBackbone(Backbone):
    """Has each stage's map leave through a LayerNorm of its own, which the next stage does not see.

    To be inherited before a family's backbone. Input: float32, normalised, (B, 3, H, W). Output: four maps, float32,
    (B, C, H/4, W/4) to (B, C, H/32, W/32). Attribute names follow the checkpoints of UniFormer.
    """

    norm_eps: ClassVar[float] = 1e-6

    def __init__(self, config: Any) -> None:
        super().__init__(config)
        self.norm1, self.norm2, self.norm3, self.norm4 = (
            ChannelsFirstLayerNorm(dim, eps=self.norm_eps) for dim in config.embed_dims
        )

    def forward(self, x: Tensor) -> list[Tensor]:
        norms = (self.norm1, self.norm2, self.norm3, self.norm4)
        return [norm(stage) for norm, stage in zip(norms, self.forward_stages(x), strict=True)]

"""Human pose: a heat map a keypoint from UniFormer's last stage, for a picture cropped to one person.

Papers: UniFormer (arXiv 2201.09450), section 6.5; Simple Baselines for Human Pose Estimation and Tracking
(arXiv 1804.06208), the head.
Official code: Sense-X/UniFormer@52a0415e4e0dda880fab8ffbc710e4d8e171149d (REPO below), pose_estimation, a copy of
mmpose; attribute names follow its checkpoints.

Layouts: images and maps (B, C, H, W).
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise

from torch import Tensor, nn

from models.checks import check_image_backbone, check_minimum
from models.registry import ModelEntry, Network, register_model
from models.uniformer import BASE, LICENCE, OFFICIAL, SMALL, DenseUniFormer, UniFormerConfig
from models.weights import IMAGENET_MEAN, IMAGENET_STD, Preprocessing, Published, Sampling, Views, Weights, load_labels


@dataclass(frozen=True)
class PoseConfig:
    """Architecture of one pose network.

    Attributes:
        num_classes: Keypoints.
        backbone: An image classifier's architecture, of which the head, `num_classes` and `input_size` do not count.
        input_size: Height and width of the input the weights were trained at; the network takes any size.
    """

    num_classes: int
    backbone: UniFormerConfig
    input_size: tuple[int, int] = (256, 192)


class KeypointHead(nn.Module):
    """Three transposed convolutions, each doubling the size: (B, C, H, W) -> heat maps (B, num_classes, 8H, 8W)."""

    def __init__(self, in_dim: int, dim: int, num_classes: int) -> None:
        super().__init__()
        self.deconv_layers = nn.Sequential()
        for a, b in pairwise((in_dim, dim, dim, dim)):
            self.deconv_layers.append(nn.ConvTranspose2d(a, b, 4, stride=2, padding=1, bias=False))
            self.deconv_layers.append(nn.BatchNorm2d(b))
            self.deconv_layers.append(nn.ReLU())
        self.final_layer = nn.Conv2d(dim, num_classes, 1)

    def forward(self, x: Tensor) -> Tensor:
        heat_maps: Tensor = self.final_layer(self.deconv_layers(x))
        return heat_maps


class PoseNetwork(Network):
    """Backbone and keypoint head.

    Input: float32, normalised, (B, 3, H, W). Output: heat maps (B, num_classes, H/4, W/4) if 32 divides H and W; else
    eight times the size of the backbone's last map, which is rounded down.
    """

    config: PoseConfig

    def __init__(self, config: PoseConfig) -> None:
        super().__init__()
        check_minimum(config, 32, "input_size")
        check_image_backbone(config.backbone)
        self.config = config
        self.backbone = DenseUniFormer(config.backbone)
        self.keypoint_head = KeypointHead(config.backbone.embed_dims[3], 256, config.num_classes)

    def forward(self, x: Tensor) -> Tensor:
        # The checkpoints hold norms for the finer stages too, though nothing reads those here.
        heat_maps: Tensor = self.keypoint_head(self.backbone(x)[-1])
        return heat_maps


# ---------------------------------------------------------------------------------------------------------------------
# Variants
# Preprocessing: REPO pose_estimation/exp/*/config.py; figures: the paper's table 10.


def _register_coco() -> None:
    table = [("s", SMALL, 25.2, 4.7, 74.0), ("b", BASE, 53.5, 9.2, 75.0)]
    for size, backbone, params, gflops, precision in table:
        weights = Weights(
            task="pose",
            dataset="COCO keypoints",
            labels="coco_keypoints",
            # The authors cut each detected person out by an affine map that keeps the aspect ratio, and average the
            # heat maps of that and of its mirror image.
            preprocessing=Preprocessing(256, (256, 192), "bilinear", IMAGENET_MEAN, IMAGENET_STD),
            sampling=Sampling("single", num_frames=1),
            views=Views(),
            published=Published(params, gflops, precision, "paper, table 10", metric="AP"),
            checkpoint=None,
            origin=OFFICIAL,
            licence=LICENCE,
        )
        config = PoseConfig(len(load_labels(weights.labels)), backbone)
        register_model(ModelEntry(f"uniformer_{size}_pose_coco", "pose", PoseNetwork, config, weights))


_register_coco()

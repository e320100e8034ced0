"""The test protocol of the segmentation papers in torch: the whole picture in, a mask of the picture's own size out."""

from __future__ import annotations

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from models import Network, model_entry
from models.weights import WholePicture

STRIDE = 32


def kept_ratio(size: tuple[int, int], short_side: int, max_long_side: int) -> tuple[int, int]:
    """Return (height, width) scaled until the short side, or the long one, is as long as it may be (mmcv imrescale)."""
    scale = min(short_side / min(size), max_long_side / max(size))
    height, width = (int(side * scale + 0.5) for side in size)
    return height, width


def stretched(size: tuple[int, int]) -> tuple[int, int]:
    """Return (height, width) with each side raised to a multiple of 32, and to 64 at least."""
    height, width = (max(2, -(-side // STRIDE)) * STRIDE for side in size)
    return height, width


def resize_whole(picture: NDArray[np.uint8], rule: WholePicture) -> NDArray[np.uint8]:
    """Return an RGB picture (H, W, 3) as the network sees it: the ratio is kept first, then both sides are stretched.

    Both steps are bilinear without antialiasing, as mmcv's are.
    """
    for size in (first := kept_ratio(picture.shape[:2], rule.short_side, rule.max_long_side), stretched(first)):
        picture = np.asarray(cv2.resize(picture, size[::-1], interpolation=cv2.INTER_LINEAR), dtype=np.uint8)
    return picture


def whole_picture_rule(name: str) -> WholePicture:
    """Return how segmentation network `name` sees pictures."""
    rule = model_entry(name).weights.preprocessing
    assert isinstance(rule, WholePicture)
    return rule


def to_input(pictures: NDArray[np.uint8], network: Network) -> Tensor:
    """Return float32 (B, 3, H, W) of RGB pictures (B, H, W, 3), normalised as the exported graph does it."""
    rule = whole_picture_rule(network.name)
    mean, std = (torch.tensor(values).view(1, 3, 1, 1) for values in (rule.mean, rule.std))
    x = torch.from_numpy(np.ascontiguousarray(pictures)).permute(0, 3, 1, 2).float() / 255
    return ((x - mean) / std).contiguous(memory_format=torch.channels_last)


@torch.inference_mode()
def segment(network: Network, picture: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Return the class indices (H, W) of an RGB picture (H, W, 3): the network's logits, enlarged, and their argmax."""
    logits = network(to_input(resize_whole(picture, whole_picture_rule(network.name))[None], network))
    enlarged = torch.nn.functional.interpolate(logits, size=picture.shape[:2], mode="bilinear", align_corners=False)
    return np.asarray(enlarged[0].argmax(dim=0).to(torch.uint8).numpy())

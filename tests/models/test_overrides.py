"""Overrides from which no network could be built or run are refused when the network is asked for, in every family.

What single families refuse besides stands in their own tests.
"""

from dataclasses import replace
from typing import Any

import pytest
import torch

from models import create_model, list_models, model_entry, morphmlp, uniformer, uniformer_light
from models.segmentation import SemanticFPNConfig, UperNetConfig

ATTENTION = r"head_dim=48: attention splits .* channels \(embed_dims\) into heads, so give a divisor of each"
FOUR = "four stages, so give four values, not 3"
DEPTHS = r"depths=\(1, 1, 1\): .*" + FOUR
IMAGE, VIDEO = "uniformer_s_in1k", "uniformer_s_16x4_k400"
LIGHT, LIGHT_VIDEO = "uniformer_xxs_128_in1k", "uniformer_xxs_8x128_k400"
TWO_PATH = "mlp3d_xs_twopath_k400"
SEGMENTOR, POSE = "uniformer_s_fpn_ade20k", "uniformer_s_pose_coco"


@pytest.mark.parametrize(
    ("name", "override", "message"),
    [
        (IMAGE, {"head_dim": 48}, ATTENTION),
        (VIDEO, {"head_dim": 48}, ATTENTION),
        (LIGHT, {"head_dim": 48}, ATTENTION),
        ("mvit_b16_in1k", {"head_dim": 36}, "head_dim=36: .* give a divisor"),
        (IMAGE, {"head_dim": 0}, "head_dim=0: .* give a divisor"),
        (LIGHT, {"head_dim": 1000}, "head_dim=1000: .* give a divisor"),
        ("mvit_b16_max_in1k", {"head_dim": -96}, "head_dim=-96: .* give a divisor"),
        (IMAGE, {"depths": (1, 1, 1)}, DEPTHS),
        (LIGHT, {"depths": (1, 1, 1)}, DEPTHS),
        ("morphmlp_t_in1k", {"depths": (1, 1, 1)}, DEPTHS),
        ("smlpnet_t_in1k", {"depths": (1, 1, 1)}, DEPTHS),
        ("cyclemlp_b1_in1k", {"depths": (1, 1, 1)}, DEPTHS),
        ("mlp3d_xs_k400", {"depths": (1, 1, 1)}, DEPTHS),
        ("cyclemlp_b1_in1k", {"mlp_ratios": (4, 4, 4)}, r"mlp_ratios=\(4, 4, 4\): .*" + FOUR),
        ("morphmlp_t_in1k", {"chunk_lengths": (14, 28, 28)}, r"chunk_lengths=\(14, 28, 28\): .*" + FOUR),
        (VIDEO, {"layer_scale": (True,) * 3}, r"layer_scale=\(True, True, True\): .*" + FOUR),
        ("smlpnet_t_in1k", {"depths": (-1, 1, 1, 1)}, r"depths=\(-1, 1, 1, 1\): give 0 or more everywhere"),
        (LIGHT, {"depths": (1, 1, 0, 1)}, r"depths=\(1, 1, 0, 1\): .* stage 3, so give it 1 block or more"),
        ("mlp3d_xs_k400", {"embed_dims": (0,) * 4}, r"embed_dims=\(0, 0, 0, 0\): give 1 or more everywhere"),
        ("morphmlp_t_in1k", {"chunk_lengths": (0,) * 4}, r"chunk_lengths=\(0, 0, 0, 0\): give 1 or more everywhere"),
        (VIDEO, {"num_frames": "8"}, "num_frames='8': give a whole number or None$"),
        (VIDEO, {"num_classes": 2.5}, "num_classes=2.5: give a whole number$"),
        (VIDEO, {"num_classes": True}, "num_classes=True: give a whole number"),
        (VIDEO, {"depths": 3}, "depths=3: give a sequence of whole numbers$"),
        (
            VIDEO,
            {"layer_scale": (1, 0, 0, 0)},
            r"layer_scale=\(1, 0, 0, 0\): give a sequence of True or False$",
        ),
        (
            SEGMENTOR,
            {"backbone": "uniformer"},
            "backbone='uniformer': give UniFormerConfig or UniFormerLightConfig or ",
        ),
        (SEGMENTOR, {"head": uniformer.SMALL}, r"head=UniFormerConfig\(.*: give SemanticFPNConfig or UperNetConfig$"),
        (SEGMENTOR, {"backbone": replace(uniformer.SMALL, head_dim=None)}, "head_dim=None: give a whole number$"),
        (VIDEO, {"depths": "1111"}, "depths='1111': give a sequence of whole numbers$"),
        (
            VIDEO,
            {"embed_dims": (64, 128, 320, "512")},
            r"embed_dims=\(64, 128, 320, '512'\): give a sequence of whole numbers$",
        ),
        (VIDEO, {"head_dim": "64"}, "head_dim='64': give a whole number$"),
        (LIGHT_VIDEO, {"input_size": "128"}, "input_size='128': give a whole number"),
        ("mvit_b16_in1k", {"depths": 16}, "depths=16"),
        ("mvit_b16_in1k", {"num_frames": "8"}, "num_frames='8'"),
        ("mvit_b16_in1k", {"embed_dims": 96}, "embed_dims=96"),
        ("mvit_b16_in1k", {"input_size": "224"}, "input_size='224'"),
        ("morphmlp_t_in1k", {"num_frames": "8"}, "num_frames='8'"),
        (
            "smlpnet_t_in1k",
            {"input_size": "224"},
            "input_size='224': give a whole number or a sequence of whole numbers$",
        ),
        ("mlp3d_xs_k400", {"num_frames": "8"}, "num_frames='8'"),
        ("mlp3d_xs_k400", {"gtm": 4}, r"gtm=4: give one \(type, group size\) a block"),
        (IMAGE, {"mlp_ratio": 0}, "mlp_ratio=0: give 1 or more$"),
        (VIDEO, {"num_frames": 0}, "num_frames=0: give 1 or more$"),
        (LIGHT_VIDEO, {"num_frames": -1}, "num_frames=-1: give 1 or more$"),
        (IMAGE, {"input_size": 31}, "input_size=31: patches of the last stage are 32 pixels wide, so give 32 or more"),
        ("uniformer_s_plus_in1k", {"input_size": 0}, "input_size=0: give 1 or more$"),
        ("cyclemlp_b1_in1k", {"input_size": 2}, "input_size=2: give 3 or more$"),
        ("mlp3d_xs_k400", {"input_size": 2}, "input_size=2: give 3 or more$"),
        (TWO_PATH, {"second_path_size": 2}, "second_path_size=2: give 3 or more$"),
        (TWO_PATH, {"fusion": "sum"}, "fusion='sum' is not known: give 'logits' or 'softmax'"),
        (IMAGE, {"stem": "convolution"}, "stem='convolution' is not known: give 'patch' or 'conv'"),
        (IMAGE, {"stage3": "windows"}, "stage3='windows' is not known: give 'global' or 'window' or 'hybrid'"),
        (IMAGE, {"stage3": "window", "window_size": 0}, "window_size=0: give 1 or more$"),
        ("mvit_b16_in1k", {"pool_mode": "avg"}, "pool_mode='avg' is not known: give 'conv' or 'max'"),
        ("mvit_b16_in1k", {"kv_stride": 0}, "kv_stride=0: give 1 or more$"),
        ("mvit_b16_in1k", {"pool_kernel": -1}, "pool_kernel=-1: give 1 or more$"),
        (SEGMENTOR, {"input_size": 63}, "input_size=63: give 64 or more$"),
        (SEGMENTOR, {"head": SemanticFPNConfig(neck_dim=0)}, "neck_dim=0: give 1 or more$"),
        (SEGMENTOR, {"head": UperNetConfig(dim=-1)}, "dim=-1: give 1 or more$"),
        (SEGMENTOR, {"backbone": replace(uniformer.SMALL, head_dim=48)}, ATTENTION),
        (SEGMENTOR, {"backbone": replace(uniformer.SMALL, num_frames=16)}, "num_frames=16 .* set it to None"),
        (SEGMENTOR, {"backbone": replace(uniformer_light.XXS, num_frames=8)}, "num_frames=8 .* set it to None"),
        (SEGMENTOR, {"backbone": replace(morphmlp.TINY, num_frames=16)}, "num_frames=16 .* set it to None"),
        (POSE, {"backbone": replace(uniformer.SMALL, num_frames=16)}, "num_frames=16 .* set it to None"),
        (POSE, {"input_size": (256, 31)}, r"input_size=\(256, 31\): give 32 or more everywhere"),
    ],
    ids=lambda value: "-".join(value) if isinstance(value, dict) else None,
)
def test_value_limit_and_remedy_are_told(name: str, override: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        create_model(name, **override)


@pytest.mark.parametrize("name", list_models())
def test_a_head_without_classes_is_refused(name: str) -> None:
    with pytest.raises(ValueError, match="num_classes=0: give 1 or more"):
        create_model(name, num_classes=0)


# The limits themselves are fine.
@pytest.mark.parametrize(
    ("name", "override", "shape"),
    [
        (IMAGE, {"head_dim": 16, "input_size": 32}, (32, 32)),
        ("uniformer_s_plus_in1k", {"input_size": 1}, (1, 1)),
        (VIDEO, {"num_frames": 1, "input_size": 32}, (1, 32, 32)),
        (LIGHT_VIDEO, {"num_frames": 1, "input_size": 64}, (1, 64, 64)),
        ("morphmlp_t_in1k", {"input_size": 1}, (1, 1)),
        ("cyclemlp_b1_in1k", {"input_size": 3}, (3, 3)),
        (TWO_PATH, {"input_size": 3, "second_path_size": 3, "num_frames": 4}, (4, 3, 3)),
        ("mvit_b16_in1k", {"head_dim": 48, "kv_stride": 1, "input_size": 32}, (32, 32)),
        (SEGMENTOR, {"input_size": 64}, (64, 64)),
    ],
)
def test_the_smallest_values_run(name: str, override: dict[str, Any], shape: tuple[int, ...]) -> None:
    depths = {} if name == SEGMENTOR else {"depths": (1,) * len(model_entry(name).config.depths)}
    with torch.inference_mode():
        assert create_model(name, num_classes=3, **depths, **override)(torch.zeros(1, 3, *shape)).shape[:2] == (1, 3)

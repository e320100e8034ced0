"""Which frames and crops each data set's test takes, from the papers and the authors' loaders and configurations.

PySlowFast's MViT: its datasets/ at SlowFast@287ec00 and the paper's sections 4 and D. UniFormer: paper section 6.2,
REPO video_classification/slowfast/datasets (hmdb.py, kinetics.py, sth.py) and exp/*/ at Sense-X/UniFormer@541decb.
MorphMLP: its copy of the same loaders, paper tables 3 to 5. MLP-3D: paper section 4.2.
"""

from fnmatch import fnmatch
from typing import Final

import pytest

from models import list_models, model_entry
from models.weights import Sampling, Views

SOFTMAX: Final = "mean_softmax"
SIGMOID: Final = "max_sigmoid"
# Of Something-Something, HMDB51 and Charades the loaders take crop 0 when one is asked for, of Kinetics crop 1.
FIRST: Final = "first"
PROTOCOLS = {
    "uniformer_[sb]_8x8_k400": (Sampling("dense", 8, 8), Views(4, 1)),
    "uniformer_[sb]_16x4_k[46]00": (Sampling("dense", 16, 4), Views(4, 1)),
    "uniformer_[sb]_16x8_k[46]00": (Sampling("dense", 16, 8), Views(4, 1)),
    "uniformer_b_32x4_k[46]00": (Sampling("dense", 32, 4), Views(4, 1)),
    "uniformer_[sb]_16_ssv[12]": (Sampling("segments_offset", 16), Views(1, 3, FIRST)),
    "uniformer_[sb]_32_ssv[12]": (Sampling("segments_offset", 32), Views(1, 3, FIRST)),
    "uniformer_s_16x4_ucf101": (Sampling("dense", 16, 4), Views(5, 3)),
    "uniformer_s_16x4_hmdb51": (Sampling("dense", 16, 4), Views(5, 3, FIRST)),
    "uniformer_xxs_4x1??_k400": (Sampling("segments_centre", 4), Views(1, 1)),
    "uniformer_xxs_8x1??_k400": (Sampling("segments_centre", 8), Views(1, 1)),
    "uniformer_xxs_16x1??_k400": (Sampling("segments_centre", 16), Views(1, 1)),
    "uniformer_x*_32x1??_k400": (Sampling("segments_centre", 32), Views(1, 1)),
    "morphmlp_[sb]_16x4_k400": (Sampling("dense", 16, 4, 30), Views(4, 1)),
    "morphmlp_[sb]_32x4_k400": (Sampling("dense", 32, 4, 30), Views(4, 1)),
    "morphmlp_[sb]_16_ssv[12]": (Sampling("segments_offset", 16), Views(1, 3, FIRST)),
    "morphmlp_[sb]_32_ssv[12]": (Sampling("segments_offset", 32), Views(1, 3, FIRST)),
    "mvit_[sb]_16x4*_k400": (Sampling("dense", 16, 4, 30), Views(5, 1, combine=SOFTMAX)),
    "mvit_b_32x3_k400": (Sampling("dense", 32, 3, 30), Views(5, 1, combine=SOFTMAX)),
    "mvit_b24_32x3_k600": (Sampling("dense", 32, 3, 30), Views(5, 1, combine=SOFTMAX)),
    "mvit_b_64x3_k400": (Sampling("dense", 64, 3, 30), Views(3, 3, combine=SOFTMAX)),
    "mvit_b_16x4_ssv2": (Sampling("segments_middle", 16), Views(1, 3, FIRST, SOFTMAX)),
    "mvit_b24_32x3_ssv2": (Sampling("segments_middle", 32), Views(1, 3, FIRST, SOFTMAX)),
    "mvit_b_16x4_charades": (Sampling("dense_stride", 16, 4), Views(10, 3, FIRST, SIGMOID)),
    "mlp3d_*_ssv[12]": (Sampling("segments_centre", 64), Views(1, 3, combine=SOFTMAX)),
    "mlp3d_*_k400": (Sampling("segments_offset", 64), Views(4, 3, combine=SOFTMAX)),
}
NAMES = [name for name in list_models(task="video_classification") if not name.endswith("_shapes")]


@pytest.mark.parametrize("name", NAMES)
def test_a_video_is_shown_as_in_the_authors_test(name: str) -> None:
    ((sampling, views),) = [protocol for pattern, protocol in PROTOCOLS.items() if fnmatch(name, pattern)]
    weights = model_entry(name).weights
    assert weights.sampling == sampling
    assert weights.views == views

"""Pose: sizes, the heat maps' shape and names, a sibling's checkpoint."""

from pathlib import Path

import pytest
import torch

from models import CheckpointError, create_model, list_models, load_checkpoint, load_labels, model_entry
from models.figures import count_gmacs
from tests.models.golden_check import read_golden

# The keypoints that change places when a picture is mirrored, by index: 1 and 2, 3 and 4, ...
PAIRS = [(i, i + 1) for i in range(1, 17, 2)]


def test_size_of_b_is_that_of_the_reference_network() -> None:
    with torch.device("meta"):
        network = create_model("uniformer_b_pose_coco")
        assert sum(parameter.numel() for parameter in network.parameters()) == 53_464_785
        assert count_gmacs(network, (3, 256, 192)) == pytest.approx(9.191, rel=1e-4)


# Heat maps at a quarter of the input, at all three sizes of the paper's table 10.
@pytest.mark.parametrize("size", [(256, 192), (384, 288), (448, 320)])
def test_heat_maps_are_a_quarter_of_the_input(size: tuple[int, int]) -> None:
    with torch.device("meta"):
        heat_maps = create_model("uniformer_s_pose_coco")(torch.zeros(2, 3, *size))
    assert heat_maps.shape == (2, 17, size[0] // 4, size[1] // 4)


def test_keypoints_come_in_mirrored_pairs() -> None:
    assert list_models(task="pose") == ["uniformer_b_pose_coco", "uniformer_s_pose_coco"]
    names = load_labels(model_entry("uniformer_s_pose_coco").weights.labels)
    assert names[0] == "nose"
    for left, right in PAIRS:
        assert names[left].replace("left", "right") == names[right]
    # From the eyes down to the ankles.
    assert [names[i].removeprefix("left_") for i in (1, 5, 9, 15)] == ["eye", "shoulder", "wrist", "ankle"]


def test_a_file_of_the_sibling_is_refused_and_the_sibling_named(tmp_path: Path) -> None:
    spec = read_golden("uniformer/pose_small_256x192")["state_dict"]
    torch.save({"state_dict": {key: torch.zeros(()).expand(shape) for key, shape, _ in spec}}, tmp_path / "s.pth")
    with torch.device("meta"):
        network = create_model("uniformer_b_pose_coco")
    with pytest.raises(CheckpointError, match="it would fit uniformer_s_pose_coco"):
        load_checkpoint(network, tmp_path / "s.pth")

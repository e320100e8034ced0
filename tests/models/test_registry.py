from pathlib import Path

import pytest
import torch

from models import create_model, list_models, load_labels, load_palette, model_entry
from models.registry import register_model

ROOT = Path(__file__).parents[2]


def test_names_are_sorted_and_filtered() -> None:
    names = list_models()
    assert names == sorted(names)
    assert "uniformer_s_16x4_k400" in list_models(family="uniformer", task="video_classification")
    assert "uniformer_s_16x4_k400" not in list_models(task="image_classification")


def test_unknown_filter_is_refused_with_the_known_ones() -> None:
    with pytest.raises(ValueError, match=r"family='uniformers' is not known: give 'cyclemlp' or .*'uniformer_light'$"):
        list_models(family="uniformers")
    with pytest.raises(ValueError, match=r"task='video' is not known: give 'video_classification' or .* or 'pose'$"):
        list_models(task="video")  # type: ignore[arg-type]


def test_duplicate_name_is_refused() -> None:
    with pytest.raises(ValueError, match=r"uniformer_s_in1k.*twice"):
        register_model(model_entry("uniformer_s_in1k"))


def test_unknown_name_proposes_close_ones() -> None:
    with pytest.raises(ValueError, match=r"did you mean .*uniformer_s_16x4_k400"):
        create_model("uniformer_s_16x4_k40")


def test_unknown_name_like_no_other_is_told_where_all_are() -> None:
    with pytest.raises(ValueError, match=r"^unknown model 'nope'; `clipserve models` lists them all$"):
        create_model("nope")


def test_unknown_override_lists_the_known_ones() -> None:
    with pytest.raises(TypeError, match=r"no setting dept; it takes .*depths"):
        create_model("uniformer_tiny_shapes", dept=(1, 1, 1, 1))


def test_overrides_change_the_network() -> None:
    network = create_model("uniformer_tiny_shapes", num_classes=7, num_frames=4)
    with torch.inference_mode():
        assert network(torch.zeros(1, 3, 4, 64, 64)).shape == (1, 7)
    assert not network.training
    assert {parameter.dtype for parameter in network.parameters()} == {torch.float32}


# The papers' data sets, and those of demo/, by the end of the name.
CLASSES = {
    "in1k": 1000,
    "k400": 400,
    "k600": 600,
    "ssv1": 174,
    "ssv2": 174,
    "ucf101": 101,
    "hmdb51": 51,
    "charades": 157,
    "ade20k": 150,
    "pose_coco": 17,
    "shapes": 11,
    "smlpnet_tiny_shapes": 5,
    "shapes_fpn": 6,
}


@pytest.mark.parametrize("name", list_models())
def test_weights_entry_is_consistent(name: str) -> None:
    entry = model_entry(name)
    weights = entry.weights
    classes = CLASSES[max((end for end in CLASSES if name.endswith(end)), key=len)]
    assert (entry.config.num_classes, len(load_labels(weights.labels))) == (classes, classes)
    if weights.task == "video_classification":
        assert weights.sampling.num_frames == entry.config.num_frames
    size = entry.config.input_size
    assert weights.preprocessing.input_size == (size if isinstance(size, tuple) else (size, size))


def test_every_label_file_is_of_a_registered_network() -> None:
    used = {model_entry(name).weights.labels for name in list_models()}
    assert {path.stem for path in (ROOT / "models/labels").glob("*.txt")} == used


# From labels/SOURCES.md: the order of Kinetics classes belongs to the weights.
@pytest.mark.parametrize(
    ("labels", "index", "name"),
    [
        ("kinetics400", 0, "abseiling"),
        ("kinetics400_uniformer", 0, "riding a bike"),
        ("kinetics400_uniformer", 331, "zumba"),
        ("kinetics600_uniformer", 0, "feeding fish"),
        ("ssv2", 140, "Spinning something that quickly stops spinning"),
    ],
)
def test_label_order(labels: str, index: int, name: str) -> None:
    assert load_labels(labels)[index] == name


@pytest.mark.parametrize("name", list_models(task="image_segmentation"))
def test_every_class_of_a_mask_has_a_colour(name: str) -> None:
    labels = model_entry(name).weights.labels
    palette = load_palette(labels)
    assert len(palette) == len(load_labels(labels))
    assert all(0 <= value <= 255 for colour in palette for value in colour)


# From labels/SOURCES.md: two classes of ADE20K share a colour.
@pytest.mark.parametrize(("labels", "distinct"), [("ade20k", 149), ("tiny_shapes_scenes", 6)])
def test_colours_tell_classes_apart(labels: str, distinct: int) -> None:
    assert len(set(load_palette(labels))) == distinct


def test_labels_without_colours_say_so() -> None:
    with pytest.raises(ValueError, match=r"no palette models/labels/imagenet1k\.palette\.json"):
        load_palette("imagenet1k")


def test_uniformer_kinetics_uses_its_own_order() -> None:
    assert model_entry("uniformer_s_16x4_k400").weights.labels == "kinetics400_uniformer"


def test_weights_whose_authors_read_frames_with_opencv_take_bgr() -> None:
    bgr = {name for name in list_models() if model_entry(name).weights.preprocessing.channels == "bgr"}
    sizes = [
        f"{family}_{size}_{frames}" for family in ("uniformer", "morphmlp") for size in "sb" for frames in (16, 32)
    ]
    expected = {f"{size}_{dataset}" for size in sizes for dataset in ("ssv1", "ssv2")}
    assert bgr == expected | {"uniformer_s_16x4_hmdb51"}

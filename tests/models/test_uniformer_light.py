"""Light UniFormer: which tokens are chosen, that nothing is kept between calls, and its variants."""

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from models import CheckpointError, create_model, list_models, load_checkpoint, model_entry
from models.figures import count_gmacs
from models.registry import Network
from models.uniformer_light import HourglassBlock
from tests.golden.fill import golden_input
from tests.models.golden_check import build_golden_network, read_golden

SMALLEST = "uniformer_xxs_128_in1k"


@pytest.fixture(scope="module")
def smallest(tmp_path_factory: pytest.TempPathFactory) -> Network:
    return build_golden_network(
        SMALLEST, read_golden("uniformer/image_xxs_128"), tmp_path_factory.mktemp("golden"), wrapper=None
    )


@pytest.mark.parametrize(
    ("name", "path"),
    [
        (SMALLEST, "image_xxs_128"),
        # Its first choice is nearly a tie: neighbours at the border differ by 5e-6 of their value.
        ("uniformer_xxs_16x128_k400", "video_xxs_16x128_k400"),
    ],
)
def test_each_block_chooses_the_tokens_that_the_authors_code_chooses(name: str, path: str, tmp_path: Path) -> None:
    golden = read_golden(f"uniformer/{path}")
    network = build_golden_network(name, golden, tmp_path, wrapper=None)
    seen: list[Tensor] = []

    def record(_block: Any, inputs: tuple[Tensor, ...]) -> None:
        seen.append(inputs[2][0])

    for block in network.modules():
        if isinstance(block, HourglassBlock):
            block.register_forward_pre_hook(record)
    with torch.inference_mode():
        network(torch.from_numpy(golden_input(tuple(golden["input_shape"]))))

    expected = [stage for key, stage in golden["stages"].items() if key.startswith("shrink.")]
    assert len(seen) == len(expected) == sum(network.config.depths[2:]) - 1
    for scores, stage in zip(seen, expected, strict=True):
        order = scores.argsort(descending=True)
        assert scores.numel() == stage["tokens"]
        kept = order[: stage["kept"]]
        assert kept[:10].tolist() == stage["top10"]
        assert int(kept.sum()) == stage["kept_index_sum"]
        assert float(scores.max()) == pytest.approx(stage["score_max"], rel=1e-5)
        assert float(scores.min()) == pytest.approx(stage["score_min"], rel=1e-5)


def test_pictures_of_a_batch_and_calls_in_other_threads_do_not_mix(smallest: Network) -> None:
    pictures = torch.from_numpy(golden_input((4, 3, 128, 128)))

    def classify(picture: Tensor) -> Tensor:
        with torch.inference_mode():
            return smallest(picture.unsqueeze(0))

    singles = torch.cat([classify(picture) for picture in pictures])
    with ThreadPoolExecutor(max_workers=4) as pool:
        threaded = torch.cat(list(pool.map(classify, pictures)))
    with torch.inference_mode():
        batched = smallest(pictures)
    torch.testing.assert_close(threaded, singles, rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(batched, singles, rtol=1e-5, atol=1e-5)


# Parameters: measured with the authors' code at the commit that models/uniformer_light.py names; multiply-adds: the
# table of its README, whose figures are rounded.
@pytest.mark.parametrize(
    ("name", "parameters", "gmacs"),
    [
        ("uniformer_xxs_160_in1k", 10_215_280, 0.67),
        ("uniformer_xxs_192_in1k", 10_215_280, 0.96),
        ("uniformer_xs_224_in1k", 16_509_264, 2.0),
        ("uniformer_xxs_4x128_k400", 9_840_616, 1.0),
        ("uniformer_xxs_4x160_k400", 9_840_616, 1.6),
        ("uniformer_xxs_8x160_k400", 9_833_896, 3.3),
        ("uniformer_xs_32x192_k400", 16_099_552, 34.2),
    ],
)
def test_variants_without_golden_have_the_published_size(name: str, parameters: int, gmacs: float) -> None:
    with torch.device("meta"):
        network = create_model(name)
        frames = [] if network.config.num_frames is None else [network.config.num_frames]
        shape = (3, *frames, network.config.input_size, network.config.input_size)
        counted = count_gmacs(network, shape)
    assert sum(parameter.numel() for parameter in network.parameters()) == parameters
    assert counted == pytest.approx(gmacs, rel=0.04)


def test_labels_and_preprocessing_follow_the_name() -> None:
    # The demo's own network is no variant of the paper.
    for name in set(list_models(family="uniformer_light")) - {"uniformer_light_tiny_shapes"}:
        entry = model_entry(name)
        preprocessing, size = entry.weights.preprocessing, entry.config.input_size
        assert preprocessing.crop == (size, size)
        assert f"{size}_" in name
        if entry.config.is_video:
            assert entry.config.num_frames == entry.weights.sampling.num_frames
            assert (entry.weights.labels, preprocessing.resize) == ("kinetics400_uniformer", size)
    resizes = [model_entry(f"uniformer_xxs_{size}_in1k").weights.preprocessing.resize for size in (128, 160, 192, 224)]
    assert resizes == [146, 182, 219, 256]


def test_inputs_too_small_to_choose_from_are_refused(smallest: Network) -> None:
    with pytest.raises(ValueError, match=r"input_size 32 .* give 64 or more"):
        create_model(SMALLEST, input_size=32)
    with pytest.raises(ValueError, match=r"1 tokens .* larger frames"):
        smallest(torch.zeros(1, 3, 32, 32))
    with pytest.raises(ValueError, match="video models only"):
        create_model(SMALLEST, layer_scale=(True, True, True, True))


def test_a_sibling_checkpoint_is_refused_with_the_name_that_fits(tmp_path: Path) -> None:
    file = tmp_path / "uniformer_xxs4_160.pth"
    torch.save({"model_state": create_model("uniformer_xxs_4x160_k400").state_dict()}, file)
    with pytest.raises(CheckpointError, match=r"would fit uniformer_xxs_4x128_k400, uniformer_xxs_4x160_k400"):
        load_checkpoint(create_model("uniformer_xxs_8x160_k400"), file)

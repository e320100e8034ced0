"""Parameters and multiply-adds: the stored figures against the networks, the networks against the papers."""

import pytest

from models import list_models, model_entry
from models.figures import FIGURES_FILE, load_figures, main, measure

# Figures that papers print and that their own networks do not have, with the reason. Names by prefix.
LIGHT_PARAMS = "the paper counts a head of 1000 classes, the checkpoints have 400"
AT_2048 = "the paper counts at 512x2048, where tests/models/test_segmentation.py counts as well"
FPN_PARAMS = "the paper's parameters are fewer than its backbone's under the usual head (models/segmentation.py)"
TWO_PATH = "the paper's two-path rows are networks found by search, not the plain ones (MLP-3D section 4)"
PARAMS_DIFFER = {
    "uniformer_xxs_4x": LIGHT_PARAMS,
    "uniformer_xxs_8x": LIGHT_PARAMS,
    "uniformer_xxs_16x": LIGHT_PARAMS,
    "uniformer_xxs_32x": LIGHT_PARAMS,
    "uniformer_xs_32x": LIGHT_PARAMS,
    **{f"morphmlp_{size}_fpn": FPN_PARAMS for size in ("t", "s", "b")},
    "morphmlp_s_in1k": "the video network without time has 40.5 M, the paper prints 38 M (table 1)",
    **{f"mlp3d_{size}_twopath": TWO_PATH for size in ("xs", "s", "m", "l")},
}
GMACS_DIFFER = {
    "uniformer_l_tl": "the official 100 M network has 19.7 G at 224, the paper prints 12.6",
    **{f"uniformer_{size}_{form}": AT_2048 for size in ("s", "b") for form in ("fpn", "h32", "upernet")},
    "uniformer_s_w32": AT_2048,
    "mvit_s_16x4_k400": "the paper's S is 3 G a view larger than the layout of its table 3c, as it is built here",
    **{f"mlp3d_{size}_twopath": TWO_PATH for size in ("xs", "s", "m", "l")},
}


def is_listed(name: str, listed: dict[str, str]) -> bool:
    return any(name.startswith(prefix) for prefix in listed)


def test_sources_name_the_size_of_pictures_that_is_not_the_input_size() -> None:
    for name in list_models(task="image_segmentation"):
        published = model_entry(name).weights.published
        if published is not None and published.gflops is not None:
            assert ("512 x 2048" in published.source) == is_listed(name, GMACS_DIFFER), name


def test_every_name_has_figures() -> None:
    assert sorted(load_figures()) == list_models()


@pytest.mark.parametrize("name", list_models())
def test_figures_are_those_of_the_network_and_of_the_paper(name: str) -> None:
    figures = measure(name)
    assert figures.params == load_figures()[name].params
    assert figures.gmacs == pytest.approx(load_figures()[name].gmacs, rel=1e-3)
    weights = model_entry(name).weights
    if weights.published is None:
        return
    views = weights.views.clips * weights.views.crops
    if weights.published.params_m is not None:
        is_printed = figures.params / 1e6 == pytest.approx(weights.published.params_m, rel=0.025)
        assert is_printed != is_listed(name, PARAMS_DIFFER)
    if weights.published.gflops is not None:
        is_printed = figures.gmacs * views == pytest.approx(weights.published.gflops, rel=0.04)
        assert is_printed != is_listed(name, GMACS_DIFFER)


@pytest.mark.parametrize("prefix", sorted({*PARAMS_DIFFER, *GMACS_DIFFER}))
def test_what_is_listed_is_registered(prefix: str) -> None:
    assert any(name.startswith(prefix) for name in list_models())


# Counted on the authors' network (Sense-X/UniFormer@52a0415). Of the others that the papers count otherwise, golden
# files and tests/models/test_segmentation.py hold the count, and tests/models/test_mlp3d.py an independent one.
@pytest.mark.parametrize(("name", "gmacs"), [("uniformer_l_tl_in1k", 19.7), ("uniformer_l_tl_384_in1k", 62.8)])
def test_large_uniformer_has_the_authors_multiply_adds(name: str, gmacs: float) -> None:
    assert load_figures()[name].gmacs == pytest.approx(gmacs, abs=0.05)


@pytest.mark.parametrize(
    ("arguments", "told"), [(["--help"], "write /"), (["--check"], "unrecognized arguments: --check")]
)
def test_the_stored_figures_are_not_touched_by_a_question(
    arguments: list[str], told: str, capsys: pytest.CaptureFixture[str]
) -> None:
    before = FIGURES_FILE.read_bytes(), FIGURES_FILE.stat().st_mtime_ns
    with pytest.raises(SystemExit):
        main(arguments)
    shown = capsys.readouterr()
    assert told in " ".join((shown.out + shown.err).split())
    assert (FIGURES_FILE.read_bytes(), FIGURES_FILE.stat().st_mtime_ns) == before

"""The generated scenes' masks are exact, by measurements that know nothing of how they were drawn."""

from math import cos, pi, sin, sqrt

import numpy as np
import pytest

from demo.scenes import CROSS_HALF_WIDTH, RING_HOLE, SCENE_LABELS, SHAPES, render_scene, shape_mask
from models import load_labels, load_palette

SIZE = (240, 300)
CENTRE = (151.3, 118.6)
RADIUS = 97.4

CROSS_LENGTH = sqrt(1 - CROSS_HALF_WIDTH**2)
# Of the unit outline, by the textbook: regular polygons, annulus, two bars less the square they share.
AREAS = {
    "circle": pi,
    "triangle": 3 * sqrt(3) / 4,
    "square": 2.0,
    "cross": 8 * CROSS_LENGTH * CROSS_HALF_WIDTH - 4 * CROSS_HALF_WIDTH**2,
    "ring": pi * (1 - RING_HOLE**2),
}


def test_labels_are_the_registered_ones() -> None:
    assert load_labels("tiny_shapes_scenes") == SCENE_LABELS == ("background", *SHAPES)
    assert len(set(SCENE_LABELS)) == len(SCENE_LABELS) >= 6
    assert len(load_palette("tiny_shapes_scenes")) == len(SCENE_LABELS)


@pytest.mark.parametrize("angle", [0.1, 0.4, 2.9])
@pytest.mark.parametrize("shape", SHAPES)
def test_area_and_centre_are_those_of_the_outline(shape: str, angle: float) -> None:
    mask = shape_mask(shape, SIZE, CENTRE, RADIUS, angle)
    assert mask.sum() == pytest.approx(AREAS[shape] * RADIUS**2, rel=2e-3)
    rows, columns = np.nonzero(mask)
    assert (columns.mean() + 0.5, rows.mean() + 0.5) == pytest.approx(CENTRE, abs=0.3)
    farthest = np.hypot(columns + 0.5 - CENTRE[0], rows + 0.5 - CENTRE[1]).max()
    assert RADIUS - 1.5 < farthest <= RADIUS + 1e-3


# Points on the edge between inside and outside, worked out by hand: (distance from the centre, radians from a corner).
@pytest.mark.parametrize(
    ("shape", "corner", "distance", "away"),
    [
        ("triangle", -pi / 2, 0.5, pi / 3),
        ("square", pi / 4, cos(pi / 4), pi / 4),
        ("cross", 0.0, sqrt(2) * CROSS_HALF_WIDTH, pi / 4),
    ],
)
def test_edges_lie_where_geometry_puts_them(shape: str, corner: float, distance: float, away: float) -> None:
    angle = 0.3
    mask = shape_mask(shape, SIZE, CENTRE, RADIUS, angle)

    def is_inside(share: float) -> bool:
        direction, length = angle + corner + away, share * distance * RADIUS
        return bool(mask[int(CENTRE[1] + length * sin(direction)), int(CENTRE[0] + length * cos(direction))])

    assert is_inside(0.95)
    assert not is_inside(1.05)


def test_what_a_ring_lies_on_shows_through_its_hole() -> None:
    ring = shape_mask("ring", SIZE, CENTRE, RADIUS)
    disc = shape_mask("circle", SIZE, CENTRE, RADIUS)
    hole = disc & ~ring
    assert hole.sum() == pytest.approx(pi * (RING_HOLE * RADIUS) ** 2, rel=5e-3)
    assert hole[int(CENTRE[1]), int(CENTRE[0])]


@pytest.mark.parametrize("shape", SHAPES)
def test_mirrored_shapes_are_of_the_same_class(shape: str) -> None:
    width = SIZE[1]
    mask = shape_mask(shape, SIZE, CENTRE, RADIUS, 0.4)
    mirrored = shape_mask(shape, SIZE, (width - CENTRE[0], CENTRE[1]), RADIUS, -0.4)
    assert (mask[:, ::-1] != mirrored).sum() <= 4


def test_masks_follow_what_is_to_be_seen() -> None:
    """Colour steps, found in the picture alone, lie where the mask has borders and nowhere near as many elsewhere."""
    for seed in range(16):
        scene = render_scene(np.random.default_rng(seed))
        picture, mask = scene.picture.astype(np.float32), scene.mask
        step = np.linalg.norm(np.diff(picture, axis=1), axis=-1)
        border = mask[:, 1:] != mask[:, :-1]
        assert border.any()
        assert np.median(step[border]) > 1.5 * np.median(step[~border])
        assert np.median(step[border]) > 35


def test_scenes_vary_and_are_reproducible() -> None:
    scenes = [render_scene(np.random.default_rng((3, number))) for number in range(40)]
    assert len({scene.mask.shape for scene in scenes}) > 30
    assert {scene.mask.shape[0] > scene.mask.shape[1] for scene in scenes} == {True, False}
    counts = np.bincount(np.concatenate([scene.mask.ravel() for scene in scenes]), minlength=len(SCENE_LABELS))
    assert counts.min() > 0.01 * counts.sum()
    for scene in scenes:
        assert 96 <= min(scene.mask.shape) <= 320
        assert scene.picture.shape == (*scene.mask.shape, 3)
        assert scene.picture.dtype == scene.mask.dtype == np.uint8
    again = render_scene(np.random.default_rng((3, 7)))
    assert np.array_equal(scenes[7].picture, again.picture)
    assert np.array_equal(scenes[7].mask, again.mask)


def test_colour_does_not_give_the_class_away() -> None:
    """The mean colour of every class is about the same grey, and varies from scene to scene by much more."""
    colours: dict[int, list[np.ndarray]] = {index: [] for index in range(len(SCENE_LABELS))}
    for number in range(150):
        scene = render_scene(np.random.default_rng((4, number)))
        for index in np.unique(scene.mask):
            colours[int(index)].append(scene.picture[scene.mask == index].mean(axis=0))
    for seen in colours.values():
        assert np.abs(np.mean(seen, axis=0) - 120).max() < 30
        assert np.std(seen, axis=0).min() > 40

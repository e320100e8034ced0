"""The generated clips are what their labels say, by measurements that know nothing of how they were drawn."""

import io

import av
import numpy as np
import pytest

from demo.clips import generate_clip, generate_file
from demo.shapes import LABELS, MIRRORED, OUTLINES, RED_BLUE_SWAPPED, REVERSED, TRANSPOSED, UPSIDE_DOWN, render_clip
from models import load_labels


def test_labels_are_the_registered_ones() -> None:
    assert load_labels("shapes") == LABELS
    assert load_labels("outlines") == OUTLINES
    assert len(set(LABELS)) == len(LABELS) >= 10


@pytest.mark.parametrize("changes", [MIRRORED, UPSIDE_DOWN, TRANSPOSED, RED_BLUE_SWAPPED, REVERSED])
def test_every_change_done_twice_is_none(changes: dict[str, str]) -> None:
    for label, changed in changes.items():
        assert changes[changed] == label != changed
    assert set(changes) <= set(LABELS)


def moving_pixels(frames: np.ndarray) -> np.ndarray:
    """Return the pixels (T, H, W) that differ from what stands at that place most of the time."""
    background = np.median(frames, axis=0)
    return np.abs(frames - background).max(axis=-1) > 60


def centroid(mask: np.ndarray) -> np.ndarray:
    return np.argwhere(mask).mean(axis=0)


@pytest.mark.parametrize(
    ("label", "axis", "sign"),
    [("moving left", 1, -1), ("moving right", 1, 1), ("moving up", 0, -1), ("moving down", 0, 1)],
)
def test_moving_shapes_move_that_way(label: str, axis: int, sign: int) -> None:
    shifts = []
    for seed in range(12):
        frames = render_clip(label, np.random.default_rng(seed)).frames.astype(np.float32)
        masks = moving_pixels(frames)
        if masks[0].sum() > 30 and masks[-1].sum() > 30:
            shifts.append((centroid(masks[-1]) - centroid(masks[0]))[axis] * sign)
    assert len(shifts) >= 6
    assert np.mean(np.array(shifts) > 0) >= 0.9


@pytest.mark.parametrize(("label", "channel_that_grows"), [("red turning blue", 2), ("blue turning red", 0)])
def test_colours_turn_that_way(label: str, channel_that_grows: int) -> None:
    for seed in range(8):
        frames = render_clip(label, np.random.default_rng(seed)).frames.astype(np.float32)
        change = frames[-1] - frames[0]
        shape = np.abs(change).max(axis=-1) > 80
        assert shape.sum() > 30
        assert np.median(change[shape][:, channel_that_grows]) > 80
        assert np.median(change[shape][:, 2 - channel_that_grows]) < -80


def test_clips_vary_and_are_reproducible() -> None:
    clips = [generate_clip(3, number) for number in range(44)]
    assert {clip.label for clip in clips} == set(LABELS)
    assert len({clip.frames.shape[1:3] for clip in clips}) > 30
    assert len({clip.fps for clip in clips}) >= 5
    assert np.array_equal(clips[7].frames, generate_clip(3, 7).frames)
    assert generate_file(3, 4) == generate_file(3, 4)
    assert {clip.outline for clip in clips} == set(OUTLINES)


def test_files_hold_what_was_drawn() -> None:
    for number in range(8):
        content, label = generate_file(9, number)
        clip = generate_clip(9, number)
        assert label == clip.label
        with av.open(io.BytesIO(content)) as container:
            frames = [frame.to_ndarray(format="rgb24") for frame in container.decode(video=0)]
        assert len(frames) == len(clip.frames)
        assert np.abs(np.stack(frames).astype(np.float32) - clip.frames).mean() < 20

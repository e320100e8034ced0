"""Worked examples of the authors' loaders: PySlowFast (decoder.py, ssv2.py, charades.py) and UniFormer's (ssv2.py)."""

from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from service.manifest import Sampling
from service.media.sampling import clip_indices


def dense(frames: int, rate: int, target_fps: float | None = 30.0) -> Sampling:
    return Sampling(kind="dense", num_frames=frames, rate=rate, target_fps=target_fps)


def numbers(text: str) -> list[int]:
    return [int(word) for word in text.split()]


@pytest.mark.parametrize(
    ("frames", "fps", "clip", "expected"),
    [
        (300, Fraction(30), 0, "0 4 8 12 16 21 25 29 33 37 42 46 50 54 58 63"),
        (300, Fraction(30), 1, "59 63 67 71 75 80 84 88 92 96 101 105 109 113 117 122"),
        (300, Fraction(30), 2, "118 122 126 130 134 139 143 147 151 155 160 164 168 172 176 181"),
        (300, Fraction(30), 4, "236 240 244 248 252 257 261 265 269 273 278 282 286 290 294 299"),
        (250, Fraction(25), 0, "0 3 6 10 13 17 20 24 27 31 34 38 41 45 48 52"),
        (250, Fraction(25), 4, "196 199 202 206 209 213 216 220 223 227 230 234 237 241 244 248"),
        (300, Fraction(30000, 1001), 0, "0 4 8 12 16 20 25 29 33 37 41 46 50 54 58 62"),
        (600, Fraction(60), 0, "0 8 16 25 33 42 50 59 67 76 84 93 101 110 118 127"),
        (150, Fraction(15), 0, "0 2 4 6 8 10 12 14 16 18 20 22 24 26 28 31"),
        # Too short: all clips alike, the last frame repeats.
        (40, Fraction(30), 3, "0 4 8 12 16 21 25 29 33 37 39 39 39 39 39 39"),
        (5, Fraction(30), 0, "0 4 4 4 4 4 4 4 4 4 4 4 4 4 4 4"),
        (100, Fraction(60), 2, "0 8 16 25 33 42 50 59 67 76 84 93 99 99 99 99"),
        (68, Fraction(30), 4, "4 8 12 16 20 25 29 33 37 41 46 50 54 58 62 67"),
    ],
)
def test_dense_16x4_five_clips(frames: int, fps: Fraction, clip: int, expected: str) -> None:
    assert clip_indices(dense(16, 4), frames, fps, clip, 5) == numbers(expected)


def test_dense_single_clip_is_the_middle_one() -> None:
    one = clip_indices(dense(16, 4), 300, Fraction(30), 0, 1)
    assert one == clip_indices(dense(16, 4), 300, Fraction(30), 2, 5)


def test_dense_32x3_and_64x3() -> None:
    expected = numbers("0 3 6 9 12 15 18 21 24 27 30 33 36 39 42 45 49 52 55 58 61 64 67 70 73 76 79 82 85 88 91 95")
    for clip in range(5):
        actual = clip_indices(dense(32, 3), 300, Fraction(30), clip, 5)
        assert actual == [frame + 51 * clip for frame in expected]
    long = clip_indices(dense(64, 3), 300, Fraction(30), 1, 3)
    assert [long[0], long[31], long[32], long[62], long[63]] == [54, 54 + 93, 54 + 97, 54 + 187, 54 + 191]


def test_dense_without_target_rate_counts_the_files_own_frames() -> None:
    # UniFormer's loader: L = rate * T frames whatever the frame rate; starts v * floor((n - L) / (V - 1)).
    at_60 = clip_indices(dense(16, 4, None), 300, Fraction(60), 3, 4)
    assert at_60 == clip_indices(dense(16, 4, None), 300, Fraction(15), 3, 4)
    assert (at_60[0], at_60[-1]) == (3 * ((300 - 64) // 3), 3 * ((300 - 64) // 3) + 63)


@pytest.mark.parametrize(
    ("frames", "count", "expected"),
    [
        (50, 16, "1 4 7 10 13 16 19 22 26 29 32 35 38 41 44 47"),
        (48, 16, "1 4 7 10 13 16 19 22 25 27 30 33 36 39 42 45"),
        (33, 16, "1 3 5 7 9 11 13 15 17 19 21 23 25 27 29 31"),
        (17, 16, "0 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15"),
        (16, 16, "0 1 2 3 4 5 6 7 8 8 9 10 11 12 13 14"),
        (10, 16, "0 1 1 2 2 3 3 4 4 5 6 6 7 7 8 8"),
        (1, 16, "0 0 0 0 0 0 0 0 0 0 0 0 0 0 0 0"),
        (12, 8, "0 2 3 5 6 7 9 10"),
        (
            120,
            32,
            "2 5 9 13 17 20 24 28 31 35 39 43 46 50 54 58 61 65 69 72 76 80 84 87 91 95 98 102 106 110 113 117",
        ),
        (300, 16, "9 28 46 65 84 102 121 140 159 177 196 215 233 252 271 289"),
    ],
)
def test_segments_middle(frames: int, count: int, expected: str) -> None:
    sampling = Sampling(kind="segments_middle", num_frames=count)
    assert clip_indices(sampling, frames, Fraction(30), 0, 1) == numbers(expected)


def test_dense_stride_charades() -> None:
    sampling = Sampling(kind="dense_stride", num_frames=16, rate=4)
    assert clip_indices(sampling, 720, Fraction(24), 0, 10) == list(range(0, 61, 4))
    assert clip_indices(sampling, 720, Fraction(24), 1, 10) == list(range(73, 134, 4))
    assert clip_indices(sampling, 720, Fraction(24), 9, 10) == list(range(659, 720, 4))
    assert clip_indices(sampling, 40, Fraction(24), 5, 10) == numbers("0 4 8 12 16 20 24 28 32 36 39 39 39 39 39 39")


@pytest.mark.parametrize("frames", [1, 7, 16, 50, 333])
@pytest.mark.parametrize(("clip", "clips"), [(0, 1), (0, 3), (2, 3)])
def test_segments_offset_matches_the_loaders_float_formula(frames: int, clip: int, clips: int) -> None:
    # UniFormer ssv2.py with file numbers from 1, written with floats as there; T = 16 keeps the floats exact.
    segment = float(frames - 1) / 16
    expected = [round(segment * i) + int(segment / (clips + 1) * (clip + 1)) for i in range(16)]
    sampling = Sampling(kind="segments_offset", num_frames=16)
    assert clip_indices(sampling, frames, None, clip, clips) == expected


def test_segments_centre_repeats_frames_of_short_videos_in_place() -> None:
    sampling = Sampling(kind="segments_centre", num_frames=8)
    assert clip_indices(sampling, 4, None, 0, 1) == [0, 0, 1, 1, 2, 2, 3, 3]
    assert clip_indices(sampling, 80, None, 0, 1) == [5, 15, 25, 35, 45, 55, 65, 75]


def test_single_takes_the_middle() -> None:
    sampling = Sampling(kind="single", num_frames=1)
    assert clip_indices(sampling, 1, None, 0, 1) == [0]
    assert clip_indices(sampling, 101, Fraction(30), 0, 1) == [50]


@given(
    kind=st.sampled_from(["dense", "dense_stride", "segments_middle", "segments_offset", "segments_centre"]),
    count=st.integers(1, 64),
    rate=st.integers(1, 9),
    frames=st.integers(1, 2000),
    fps=st.fractions(Fraction(1), Fraction(240)),
    clips=st.integers(1, 10),
    data=st.data(),
)
def test_every_rule_stays_inside_the_video_and_goes_forward(
    kind: str, count: int, rate: int, frames: int, fps: Fraction, clips: int, data: st.DataObject
) -> None:
    sampling = Sampling(kind=kind, num_frames=count, rate=rate, target_fps=30.0)  # type: ignore[arg-type]
    indices = clip_indices(sampling, frames, fps, data.draw(st.integers(0, clips - 1)), clips)
    assert len(indices) == count
    assert indices == sorted(indices)
    assert indices[0] >= 0
    assert indices[-1] < frames

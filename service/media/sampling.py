"""Which frames of a video make a clip: pure integer arithmetic, apart from decoding.

The rules are those of the authors' data loaders, exactly; positions are computed with fractions, so nothing depends
on floating-point rounding. Frames count from 0. n is the number of frames, T the frames a clip, K the clips.
"""

from __future__ import annotations

from collections.abc import Callable
from fractions import Fraction
from math import floor

from service.manifest import Sampling


def clip_indices(sampling: Sampling, num_frames: int, fps: Fraction | None, clip: int, clips: int) -> list[int]:
    """Return the T frame numbers of clip number `clip` out of `clips`.

    Args:
        sampling: The model's rule.
        num_frames: Frames in the video, at least 1.
        fps: Frames a second of the video; None (a picture, or unknown) counts as the rule's target rate.
        clip: 0 to clips - 1.
        clips: Temporal views of the request.
    """
    indices = _RULES[sampling.kind](sampling, num_frames, fps, clip, clips)
    assert len(indices) == sampling.num_frames
    assert all(0 <= index < num_frames for index in indices)
    return indices


def _dense(sampling: Sampling, n: int, fps: Fraction | None, clip: int, clips: int) -> list[int]:
    """T frames over a span of T * tau frames at the target rate, both ends included.

    PySlowFast with offset sampling (decoder.py), and UniFormer's decord loader when there is no target rate: the step
    is (L - 1) / (T - 1), not tau. Videos shorter than the span repeat their last frame.
    """
    assert sampling.rate is not None
    T = sampling.num_frames
    scale = Fraction(1)
    if fps is not None and sampling.target_fps is not None:
        scale = fps / Fraction(sampling.target_fps)
    span = max(Fraction(1), T * sampling.rate * scale)
    room = max(n - span, Fraction(0))
    start = floor(room / 2) if clips == 1 else clip * floor(room / (clips - 1))
    return [min(floor(start + (span - 1) * i / max(T - 1, 1)), n - 1) for i in range(T)]


def _dense_stride(sampling: Sampling, n: int, _fps: Fraction | None, clip: int, clips: int) -> list[int]:
    """Every tau-th frame from a start that moves evenly over the video (PySlowFast charades.py).

    The authors' rule divides by zero for one clip; here one clip sits in the middle.
    """
    assert sampling.rate is not None
    T = sampling.num_frames
    room = max(n - ((T - 1) * sampling.rate + 1), 0)
    start = room // 2 if clips == 1 else round(Fraction(clip * room, clips - 1))
    return [min(start + i * sampling.rate, n - 1) for i in range(T)]


def _segments_middle(sampling: Sampling, n: int, _fps: Fraction | None, _clip: int, _clips: int) -> list[int]:
    """Middle of T segments between rounded bounds (PySlowFast ssv2.py). Every clip is the same."""
    T = sampling.num_frames
    # Python rounds a fraction half to even, as the authors' numpy does.
    bounds = [round(Fraction((n - 1) * i, T)) for i in range(T + 1)]
    return [(bounds[i] + bounds[i + 1]) // 2 for i in range(T)]


def _segments_offset(sampling: Sampling, n: int, _fps: Fraction | None, clip: int, clips: int) -> list[int]:
    """Rounded start of T segments plus an offset that grows with the clip (UniFormer and MorphMLP, ssv2.py)."""
    T = sampling.num_frames
    segment = Fraction(n - 1, T)
    offset = floor(segment * (clip + 1) / (clips + 1))
    return [round(segment * i) + offset for i in range(T)]


def _segments_centre(sampling: Sampling, n: int, _fps: Fraction | None, _clip: int, _clips: int) -> list[int]:
    """Exact middle of T equal segments; short videos repeat frames in place."""
    T = sampling.num_frames
    return [(2 * i + 1) * n // (2 * T) for i in range(T)]


def _single(_sampling: Sampling, n: int, _fps: Fraction | None, clip: int, clips: int) -> list[int]:
    """One frame, from the middle of one of K equal segments: how an image model looks at a video."""
    return [(2 * clip + 1) * n // (2 * clips)]


_RULES: dict[str, Callable[[Sampling, int, Fraction | None, int, int], list[int]]] = {
    "dense": _dense,
    "dense_stride": _dense_stride,
    "segments_middle": _segments_middle,
    "segments_offset": _segments_offset,
    "segments_centre": _segments_centre,
    "single": _single,
}

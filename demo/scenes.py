"""Render pictures of shapes with exact masks: what a segmentation network of the demo learns and is measured on.

A shape's class is its outline alone. Colour, texture, size, turn and place are random, and every outline is its own
mirror image, so that the mask of a mirrored picture is the mirrored mask. A pixel belongs to a shape if its centre lies
within the outline; picture and mask are cut by that one rule, so the mask is exact to the pixel.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from math import cos, pi, sin

import cv2
import numpy as np
from numpy.typing import NDArray

Plane = NDArray[np.float32]
Mask = NDArray[np.bool_]

RING_HOLE = 0.5
CROSS_HALF_WIDTH = 0.33


def _in_circle(x: Plane, y: Plane) -> Mask:
    return x * x + y * y <= 1


def _in_triangle(x: Plane, y: Plane) -> Mask:
    # A side's distance from the origin is half that of the opposite corner; one side lies below, level.
    return np.maximum(y, abs(x) * cos(pi / 6) - y / 2) <= 0.5


def _in_square(x: Plane, y: Plane) -> Mask:
    return np.maximum(abs(x), abs(y)) <= cos(pi / 4)


def _in_cross(x: Plane, y: Plane) -> Mask:
    length = (1 - CROSS_HALF_WIDTH**2) ** 0.5
    x, y = abs(x), abs(y)
    inside: Mask = (np.minimum(x, y) <= CROSS_HALF_WIDTH) & (np.maximum(x, y) <= length)
    return inside


def _in_ring(x: Plane, y: Plane) -> Mask:
    squared = x * x + y * y
    return (squared <= 1) & (squared >= RING_HOLE**2)


# Whether points lie within the upright outline around the origin whose farthest point is at distance 1; y points down.
_OUTLINES: dict[str, Callable[[Plane, Plane], Mask]] = {
    "circle": _in_circle,
    "triangle": _in_triangle,
    "square": _in_square,
    "cross": _in_cross,
    "ring": _in_ring,
}
SHAPES = tuple(_OUTLINES)
SCENE_LABELS = ("background", *SHAPES)

SHORT_SIDES = (96, 320)
_ASPECTS = ((1, 1), (4, 3), (3, 2), (16, 9), (3, 4), (2, 3), (9, 16))
_MOST_SHAPES = 5
_RADII = (0.2, 0.42)
_MOST_TILT = 0.4  # radians, to either side
# A shape is drawn only if that share of every shape below it stays to be seen.
_VISIBLE_SHARE = 0.75
_COLOUR_DISTANCE = 80


@dataclass(frozen=True)
class Scene:
    """A rendered picture and what is where in it.

    Attributes:
        picture: uint8 RGB, (H, W, 3).
        mask: uint8 indices into SCENE_LABELS, (H, W).
    """

    picture: NDArray[np.uint8]
    mask: NDArray[np.uint8]


def shape_mask(
    shape: str, size: tuple[int, int], centre: tuple[float, float], radius: float, angle: float = 0.0
) -> Mask:
    """Return which pixels of a picture belong to a shape, bool (H, W).

    Args:
        shape: One of SHAPES.
        size: Height and width of the picture.
        centre: x and y, pixels from the picture's upper left corner; the first pixel's centre is (0.5, 0.5).
        radius: Of the smallest circle around the centre that holds the shape, pixels.
        angle: Turn of the shape, radians clockwise.
    """
    y, x = np.indices(size, dtype=np.float32) + 0.5
    x, y = (x - centre[0]) / radius, (y - centre[1]) / radius
    return _OUTLINES[shape](x * cos(angle) + y * sin(angle), y * cos(angle) - x * sin(angle))


def render_scene(rng: np.random.Generator) -> Scene:
    """Draw one scene; everything about it comes from `rng`."""
    height, width = size = _picture_size(rng)
    short = min(size)
    everywhere = np.ones(size, np.bool_)
    canvas = _painted(everywhere, rng.uniform(20, 235, 3), rng).reshape(height, width, 3)
    mask = np.zeros(size, np.uint8)
    below: list[tuple[Mask, int]] = []  # of each shape so far: what is still to be seen of it, its pixels at first
    for _ in range(int(rng.integers(2, _MOST_SHAPES + 1))):
        index = int(rng.integers(1, len(SCENE_LABELS)))
        radius = short * rng.uniform(*_RADII)
        # Up to a third of a shape's radius may lie outside the picture.
        centre = (_within(width, 0.67 * radius, rng), _within(height, 0.67 * radius, rng))
        drawn = shape_mask(SCENE_LABELS[index], size, centre, radius, rng.uniform(-_MOST_TILT, _MOST_TILT))
        if any((seen & ~drawn).sum() < _VISIBLE_SHARE * area for seen, area in below):
            continue
        below = [(seen & ~drawn, area) for seen, area in below] + [(drawn, int(drawn.sum()))]
        canvas[drawn] = _painted(drawn, _standing_out(canvas[drawn], rng), rng)
        mask[drawn] = index
    return Scene(_photographed(canvas, rng), mask)


def _picture_size(rng: np.random.Generator) -> tuple[int, int]:
    """Return height and width."""
    short = int(rng.integers(SHORT_SIDES[0], SHORT_SIDES[1] + 1))
    high, wide = _ASPECTS[int(rng.integers(len(_ASPECTS)))]
    return round(short * high / min(high, wide)), round(short * wide / min(high, wide))


def _within(length: int, margin: float, rng: np.random.Generator) -> float:
    """Return a random place that is `margin` away from both ends."""
    return float(rng.uniform(margin, length - margin))


def _standing_out(behind: NDArray[np.float32], rng: np.random.Generator) -> NDArray[np.float64]:
    """Return a random colour that differs from nearly all of the pixels (N, 3) that it will cover or touch."""
    candidates = rng.uniform(10, 245, (24, 3))
    distances = [np.percentile(np.linalg.norm(behind[::7] - colour, axis=1), 5) for colour in candidates]
    good = [colour for colour, far in zip(candidates, distances, strict=True) if far >= _COLOUR_DISTANCE]
    return np.asarray(good[0] if good else candidates[int(np.argmax(distances))])


def _painted(pixels: Mask, colour: NDArray[np.float64], rng: np.random.Generator) -> Plane:
    """Return the colours (N, 3), 0 to 255, of those pixels (H, W) of a plane of one colour under a random pattern."""
    pattern = _pattern(pixels.shape, rng)[pixels]
    tint = rng.uniform(0, 18) * rng.uniform(-1, 1, 3)
    return np.asarray(np.clip(colour + pattern[:, None] * tint, 0, 255), dtype=np.float32)


def _pattern(size: tuple[int, int], rng: np.random.Generator) -> Plane:
    """Return a plane (H, W) of values from -1 to 1."""
    height, width = size
    kind = rng.choice(["blotches", "stripes", "checks", "plain"])
    if kind == "blotches":
        cells = rng.uniform(-1, 1, rng.integers(3, 24, 2)).astype(np.float32)
        return np.asarray(cv2.resize(cells, (width, height)))
    y, x = np.indices(size, dtype=np.float32)
    angle, period = rng.uniform(0, pi), min(size) * rng.uniform(0.04, 0.2)
    along = np.sin((x * cos(angle) + y * sin(angle)) * (2 * pi / period))
    across = np.sin((y * cos(angle) - x * sin(angle)) * (2 * pi / period))
    patterns = {"stripes": along, "checks": np.sign(along * across), "plain": np.zeros_like(x)}
    return np.asarray(patterns[kind])


def _photographed(canvas: Plane, rng: np.random.Generator) -> NDArray[np.uint8]:
    """Return the canvas as an uneven light and a noisy sensor would show it, uint8."""
    height, width = canvas.shape[:2]
    corners = rng.uniform(0.75, 1.1, (2, 2)).astype(np.float32)
    light = cv2.resize(corners, (width, height), interpolation=cv2.INTER_LINEAR)[..., None]
    noise = np.float32(rng.uniform(0, 6)) * rng.standard_normal(canvas.shape, np.float32)
    return np.asarray(np.clip(canvas * light + noise, 0, 255), dtype=np.uint8)

"""Render labelled clips of one moving shape: the classes are the mistakes that a serving path can make.

Mirrored frames turn left into right, a wrong time order turns growing into shrinking, swapped colour channels turn a
shape that goes from red to blue into one that goes from blue to red. A server that answers these clips correctly has
decoded, turned, sampled, ordered and cropped them correctly.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import cos, exp, pi, sin

import cv2
import numpy as np
from numpy.typing import NDArray

LABELS = (
    "still",
    "moving left",
    "moving right",
    "moving up",
    "moving down",
    "growing",
    "shrinking",
    "rotating clockwise",
    "rotating counter-clockwise",
    "red turning blue",
    "blue turning red",
)

# What each label becomes when the clip is changed in that way; labels that are not named stay as they are.
MIRRORED = {
    "moving left": "moving right",
    "moving right": "moving left",
    "rotating clockwise": "rotating counter-clockwise",
    "rotating counter-clockwise": "rotating clockwise",
}
UPSIDE_DOWN = {
    "moving up": "moving down",
    "moving down": "moving up",
    "rotating clockwise": "rotating counter-clockwise",
    "rotating counter-clockwise": "rotating clockwise",
}
RED_BLUE_SWAPPED = {"red turning blue": "blue turning red", "blue turning red": "red turning blue"}
TRANSPOSED = {
    "moving left": "moving up",
    "moving up": "moving left",
    "moving right": "moving down",
    "moving down": "moving right",
    "rotating clockwise": "rotating counter-clockwise",
    "rotating counter-clockwise": "rotating clockwise",
}
REVERSED = {
    "moving left": "moving right",
    "moving right": "moving left",
    "moving up": "moving down",
    "moving down": "moving up",
    "growing": "shrinking",
    "shrinking": "growing",
    **RED_BLUE_SWAPPED,
    "rotating clockwise": "rotating counter-clockwise",
    "rotating counter-clockwise": "rotating clockwise",
}

# Corner points around the origin, y downwards, farthest corner at distance 1. None has a rotational symmetry that could
# hide or reverse a rotation.
_OUTLINES: dict[str, list[tuple[float, float]]] = {
    "triangle": [(0.0, -1.0), (0.5, 0.8), (-0.5, 0.8)],
    "bar": [(-1.0, -0.22), (1.0, -0.22), (1.0, 0.22), (-1.0, 0.22)],
    "arrow": [(1.0, 0.0), (0.2, -0.65), (0.2, -0.25), (-0.9, -0.25), (-0.9, 0.25), (0.2, 0.25), (0.2, 0.65)],
    "corner": [(-0.7, -0.7), (-0.2, -0.7), (-0.2, 0.3), (0.7, 0.3), (0.7, 0.7), (-0.7, 0.7)],
    "mushroom": [(sin(a) * (0.55 if cos(a) > 0 else 0.9), -cos(a)) for a in np.linspace(0, 2 * pi, 24, endpoint=False)],
}
OUTLINES = tuple(_OUTLINES)
# By the names of their files in models/labels.
LABEL_SETS = {"shapes": LABELS, "outlines": OUTLINES}
_ASPECTS = ((4, 3), (16, 9), (1, 1), (3, 4), (9, 16))
_FRAME_RATES = (12, 15, 24, 25, 30, 50, 60)


@dataclass(frozen=True)
class Clip:
    """A rendered clip.

    Attributes:
        frames: uint8 RGB, (T, H, W, 3).
        fps: Frames a second.
        label: What happens, one of LABELS.
        outline: The shape that it happens to, one of OUTLINES: a single frame tells it.
    """

    frames: NDArray[np.uint8]
    fps: int
    label: str
    outline: str

    def label_of(self, labels: str) -> str:
        """Return the clip's label of that set, one of LABEL_SETS."""
        return {"shapes": self.label, "outlines": self.outline}[labels]


@dataclass(frozen=True)
class _Motion:
    """State of the shape as a function of time: rates a second, lengths in short sides of the frame."""

    centre: tuple[float, float]
    velocity: tuple[float, float]
    radius: float
    growth: float
    angle: float
    spin: float
    first_colour: NDArray[np.float64]
    last_colour: NDArray[np.float64]


def render_clip(label: str, rng: np.random.Generator) -> Clip:
    """Draw one clip of class `label`; size, aspect, frame rate, length, texture and noise come from `rng`."""
    fps = int(rng.choice(_FRAME_RATES))
    seconds = rng.uniform(0.9, 2.4)
    height, width = _frame_size(rng)
    background = _background(height, width, rng)
    outline = str(rng.choice(OUTLINES))
    corners = np.array(_OUTLINES[outline])
    motion = _motion(label, rng)
    noise = rng.uniform(0.0, 8.0)
    count = max(2, round(seconds * fps))
    # A few noise fields, shifted from frame to frame, look fresh and cost little.
    grain = rng.normal(0.0, noise, (4, height, width, 1)).astype(np.float32)
    frames = np.empty((count, height, width, 3), np.uint8)
    for i in range(count):
        progress = i / (count - 1)
        frame = _frame(background, corners, motion, progress, (progress - 0.5) * seconds)
        frames[i] = np.clip(frame + np.roll(grain[i % 4], 7 * i, axis=1), 0, 255)
    return Clip(frames, fps, label, outline)


def render_picture(rng: np.random.Generator) -> NDArray[np.uint8]:
    """Draw one still picture (H, W, 3); a video model should call it `still`."""
    picture: NDArray[np.uint8] = render_clip("still", rng).frames[0]
    return picture


def _frame_size(rng: np.random.Generator) -> tuple[int, int]:
    short = int(rng.integers(112, 225))
    wide, high = _ASPECTS[int(rng.integers(len(_ASPECTS)))]
    scale = short / min(wide, high)
    # Chroma is stored at half resolution, so sides are even.
    return 2 * round(high * scale / 2), 2 * round(wide * scale / 2)


def _background(height: int, width: int, rng: np.random.Generator) -> NDArray[np.float32]:
    """A smooth coloured texture with some fixed shapes in it, (H, W, 3), 0 to 255."""
    coarse = rng.uniform(30, 225, (int(rng.integers(2, 7)), int(rng.integers(2, 7)), 3)).astype(np.float32)
    texture = cv2.resize(coarse, (width, height), interpolation=cv2.INTER_CUBIC)
    fine = rng.normal(0, rng.uniform(2, 14), (height // 4, width // 4, 1)).astype(np.float32)
    texture = texture + cv2.resize(fine, (width, height), interpolation=cv2.INTER_LINEAR)[..., None]
    # Half of its own mean, half grey: the moving shape must stand out by its colour.
    texture = 0.55 * texture + 0.45 * rng.uniform(60, 190)
    for _ in range(int(rng.integers(0, 4))):
        centre = (int(rng.uniform(0, width)), int(rng.uniform(0, height)))
        radius = int(rng.uniform(0.03, 0.12) * min(height, width))
        cv2.circle(texture, centre, radius, rng.uniform(20, 235, 3).tolist(), -1, cv2.LINE_AA)
    return np.asarray(np.clip(texture, 0, 255), dtype=np.float32)


def _motion(label: str, rng: np.random.Generator) -> _Motion:
    colour = _vivid_colour(rng)
    first, last = colour, colour
    if label in RED_BLUE_SWAPPED:
        first, last = _near((225, 35, 40), rng), _near((40, 45, 225), rng)
        if label == "blue turning red":
            first, last = last, first
    velocity = (0.0, 0.0)
    if label.startswith("moving"):
        speed, slant = rng.uniform(0.14, 0.42), rng.uniform(-0.2, 0.2)
        along = {"right": 0.0, "down": 0.5 * pi, "left": pi, "up": 1.5 * pi}[label.split()[1]]
        velocity = (speed * cos(along + slant), speed * sin(along + slant))
    growth = {"growing": 1.0, "shrinking": -1.0}.get(label, 0.0) * rng.uniform(0.35, 0.85)
    # Angles grow from x to y, and y points down, so a positive spin is clockwise to a viewer.
    spin = {"rotating clockwise": 1.0, "rotating counter-clockwise": -1.0}.get(label, 0.0) * rng.uniform(0.7, 2.6)
    return _Motion(
        centre=(rng.uniform(-0.14, 0.14), rng.uniform(-0.14, 0.14)),
        velocity=velocity,
        radius=rng.uniform(0.16, 0.28),
        growth=growth,
        angle=rng.uniform(0, 2 * pi),
        spin=spin,
        first_colour=first,
        last_colour=last,
    )


def _vivid_colour(rng: np.random.Generator) -> NDArray[np.float64]:
    colour = rng.uniform(0, 255, 3)
    colour[int(rng.integers(3))] = rng.uniform(225, 255)
    colour[int(rng.integers(3))] = rng.uniform(0, 40)
    return colour


def _near(colour: tuple[int, int, int], rng: np.random.Generator) -> NDArray[np.float64]:
    return np.clip(np.array(colour) + rng.uniform(-35, 35, 3), 0, 255)


def _frame(
    background: NDArray[np.float32],
    outline: NDArray[np.float64],
    motion: _Motion,
    progress: float,
    seconds: float,
) -> NDArray[np.float32]:
    """Draw the shape at `seconds` from the middle of the clip, `progress` of its length (0 to 1)."""
    height, width = background.shape[:2]
    short = min(height, width)
    radius = min(max(motion.radius * exp(motion.growth * seconds), 0.03), 0.6) * short
    angle = motion.angle + motion.spin * seconds
    turn = np.array([[cos(angle), -sin(angle)], [sin(angle), cos(angle)]])
    centre = np.array([width, height]) / 2 + short * (np.array(motion.centre) + np.array(motion.velocity) * seconds)
    corners = centre + radius * outline @ turn.T
    colour = motion.first_colour + (motion.last_colour - motion.first_colour) * progress
    frame = background.copy()
    fractional_bits = 4
    points = np.rint(corners * (1 << fractional_bits)).astype(np.int32)
    cv2.fillPoly(frame, [points], colour.tolist(), cv2.LINE_8, fractional_bits)
    return frame

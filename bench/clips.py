"""The clips that are measured: ten seconds of a camera that pans over a textured scene, with moving discs and noise."""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray

from demo.clips import Encoding, encode_frames

FPS, SECONDS, HEIGHT, WIDTH = 30, 10, 256, 340
COUNT = FPS * SECONDS

ENCODINGS = {
    "H.264, encoder's defaults (keyint 250)": Encoding("mp4", "libx264", {}),
    "H.264, keyint 250, no B-frames": Encoding("mp4", "libx264", {"bf": "0"}),
    "H.264, keyint 48": Encoding("mp4", "libx264", {"g": "48"}),
    "H.264, keyint 48, no B-frames": Encoding("mp4", "libx264", {"g": "48", "bf": "0"}),
    "HEVC, encoder's defaults": Encoding("mp4", "libx265", {"x265-params": "log-level=none"}),
    "VP9, keyint 128": Encoding("webm", "libvpx-vp9", {"g": "128", "deadline": "good", "cpu-used": "4", "b:v": "400k"}),
}
# What servers are sent.
H264_DEFAULTS = ENCODINGS["H.264, encoder's defaults (keyint 250)"]


def make_clip(encoding: Encoding, height: int = HEIGHT, width: int = WIDTH) -> bytes:
    """Return an encoded clip of that size in pixels; the same one every time."""
    rng = np.random.default_rng(20)
    scene = _scene(rng, 2 * height, 3 * width)
    discs = rng.random((6, 6))
    frames = np.empty((COUNT, height, width, 3), np.uint8)
    for number in range(COUNT):
        left = int(width * (1 + 0.9 * np.sin(number / 60)))
        top = int(height * (0.5 + 0.4 * np.sin(number / 45)))
        picture = scene[top : top + height, left : left + width] + 120
        for x, y, dx, dy, size, shade in discs:
            at = (int((x + dx * number / 90) % 1 * width), int((y + dy * number / 90) % 1 * height))
            radius = int((10 + 30 * size) * height / HEIGHT)
            cv2.circle(picture, at, radius, (255 * shade, 255 * x, 255 * y), -1)
        frames[number] = np.clip(picture + rng.normal(0, 2, picture.shape), 0, 255)
    return encode_frames(frames, FPS, encoding)


def _scene(rng: np.random.Generator, height: int, width: int) -> NDArray[np.float32]:
    """Return a picture (height, width, 3) with grain of several sizes, around 0."""
    scene = np.zeros((height, width, 3), np.float32)
    for scale in (4, 16, 64):
        grain = rng.random((height // scale + 1, width // scale + 1, 3), np.float32) - 0.5
        scene += cv2.resize(grain, (width, height), interpolation=cv2.INTER_CUBIC) * 20 * scale**0.5
    return scene

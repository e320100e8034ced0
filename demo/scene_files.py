"""Encode rendered scenes as uploads, reproducibly: scene number i of a seed is always the same file."""

from __future__ import annotations

import io

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from demo.scenes import Scene, render_scene


def generate_scene(seed: int, number: int) -> Scene:
    """Return scene `number` of the endless set `seed`."""
    return render_scene(np.random.default_rng((seed, number)))


def encode_jpeg(picture: NDArray[np.uint8], quality: int) -> bytes:
    """Return the JPEG file of an RGB picture (H, W, 3); chroma at half resolution."""
    file = io.BytesIO()
    Image.fromarray(picture).save(file, "JPEG", quality=quality)
    return file.getvalue()


def encode_png(picture: NDArray[np.uint8]) -> bytes:
    """Return the PNG file of an RGB picture (H, W, 3)."""
    file = io.BytesIO()
    Image.fromarray(picture).save(file, "PNG", compress_level=1)
    return file.getvalue()


def generate_scene_file(seed: int, number: int) -> tuple[bytes, NDArray[np.uint8]]:
    """Return the file of scene `number` of the set `seed`, PNG and JPEG in turn, and its mask (H, W)."""
    scene = generate_scene(seed, number)
    if number % 2 == 0:
        return encode_png(scene.picture), scene.mask
    rng = np.random.default_rng((seed, number, 1))
    return encode_jpeg(scene.picture, int(rng.integers(60, 96))), scene.mask

"""Turn generated clip files into training arrays, through the same decoding that serves requests."""

from __future__ import annotations

import io
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from tqdm import tqdm

from demo.clips import encode_picture, generate_file
from demo.shapes import LABELS, render_picture
from export.manifests import view_protocol
from service.media.decoding import decode_views
from service.media.types import DecodeLimits, DecodeRequest

LIMITS = DecodeLimits(max_pixels=4096 * 4096, max_frames=10_000, max_seconds=60, max_streams=8)
PICTURE_EVERY = 40


def decode_file(content: bytes, model_name: str) -> NDArray[np.uint8]:
    """Return the single view (T, H, W, 3) that model `model_name` sees of an encoded file."""
    request = DecodeRequest(**view_protocol(model_name), limits=LIMITS)
    arrays: list[NDArray[np.uint8]] = []

    def allocate(shape: tuple[int, ...]) -> NDArray[np.uint8]:
        arrays.append(np.empty(shape, np.uint8))
        return arrays[-1]

    decode_views(io.BytesIO(content), request, allocate)
    view: NDArray[np.uint8] = arrays[-1][0]
    return view


def training_example(number: int, seed: int, model_name: str) -> tuple[NDArray[np.uint8], int]:
    """Return the view and the label number of example `number`; a few are still pictures, as a JPEG upload is."""
    if number % PICTURE_EVERY == 0:
        rng = np.random.default_rng((seed, number, 2))
        return decode_file(encode_picture(render_picture(rng)), model_name), LABELS.index("still")
    content, label = generate_file(seed, number)
    return decode_file(content, model_name), LABELS.index(label)


def load_examples(seed: int, count: int, model_name: str, cache: Path) -> tuple[NDArray[np.uint8], NDArray[np.int64]]:
    """Return views (count, T, H, W, 3) and label numbers (count,) of the set `seed`; made once, kept in `cache`."""
    file = cache / f"{model_name}_{seed}_{count}.npz"
    if file.is_file():
        with np.load(file, allow_pickle=False) as stored:
            return stored["views"], stored["labels"]
    make = partial(training_example, seed=seed, model_name=model_name)
    with ProcessPoolExecutor() as pool:
        examples = list(
            tqdm(pool.map(make, range(count), chunksize=8), total=count, desc=f"clips of seed {seed}", unit="clip")
        )
    views = np.stack([view for view, _ in examples])
    labels = np.array([label for _, label in examples])
    cache.mkdir(parents=True, exist_ok=True)
    np.savez(file, views=views, labels=labels)
    return views, labels

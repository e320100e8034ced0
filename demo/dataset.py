"""Turn generated clip files into training arrays, through the same decoding that serves requests."""

from __future__ import annotations

import json
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from tqdm import tqdm

from demo.clips import generate_example
from demo.labelled import LABELS_FILE, kept_clips
from export.manifests import view_protocol
from models import load_labels, model_entry
from service.media.extract import extract
from service.media.types import DecodeLimits, DecodeRequest

LIMITS = DecodeLimits(max_pixels=4096 * 4096, max_frames=10_000, max_seconds=60, max_streams=8)


def load_examples(seed: int, count: int, name: str, folder: Path) -> tuple[NDArray[np.uint8], NDArray[np.int64]]:
    """Return what model `name` sees of the set `seed`, and the numbers of the right labels.

    The files are kept in `folder`; decoding them takes seconds.

    Returns:
        Views, uint8 (count, views, T, H, W, 3), and label numbers (count,).
    """
    labels = model_entry(name).weights.labels
    files = kept_clips(folder, count, seed, labels, generate_example)
    given: dict[str, str] = json.loads((files / LABELS_FILE).read_text(encoding="utf-8"))
    request = DecodeRequest(**view_protocol(name), limits=LIMITS)
    with ProcessPoolExecutor() as pool:
        decoded = pool.map(partial(extract, request=request), [files / file for file in given], chunksize=8)
        views = list(tqdm(decoded, total=count, desc=f"decoding for {name}", unit="clip"))
    known = load_labels(labels)
    return np.stack(views), np.array([known.index(label) for label in given.values()])

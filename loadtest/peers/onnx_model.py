"""The model file in ONNX Runtime, and an answer made of its scores: what all servers but clipserve share."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime as ort
from numpy.typing import NDArray

from loadtest.peers.full_decode import Clip

ARTEFACT = Path(__file__).parents[2] / "model_repository/uniformer_tiny_shapes/1"
TOP = 5
# Of the environment, as whoever starts a server sets it: how many cores there are for it.
CORES = "PEERS_CORES"


def told_cores() -> int:
    """Return how many cores this server is to use: as many as it was told, or all that it may run on."""
    return int(os.environ.get(CORES) or len(os.sched_getaffinity(0)))


class OnnxModel:
    """A session, which several threads may use at the same time.

    Args:
        threads: Of one run.
    """

    def __init__(self, threads: int) -> None:
        options = ort.SessionOptions()
        options.intra_op_num_threads = threads
        # Threads that spin while they wait take cores that decoding needs.
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")
        self._session = ort.InferenceSession(ARTEFACT / "model.onnx", options, providers=["CPUExecutionProvider"])
        self._labels = (ARTEFACT / "labels.txt").read_text().splitlines()

    def classify(self, clips: Sequence[Clip]) -> list[dict[str, Any]]:
        """Return an answer for each clip of a batch."""
        batch = np.stack([clip.pixels for clip in clips])
        (logits,) = self._session.run(["logits"], {"frames": batch})
        return [self._answer(row, clip) for row, clip in zip(logits, clips, strict=True)]

    def _answer(self, logits: NDArray[np.float32], clip: Clip) -> dict[str, Any]:
        scores = np.exp(logits - logits.max())
        scores /= scores.sum()
        best = np.argsort(-scores)[:TOP]
        return {
            "predictions": [
                {"index": int(index), "label": self._labels[index], "score": float(scores[index])} for index in best
            ],
            "frames": clip.frames,
        }

"""Write the sample media that the demo and the documentation use (`python -m demo.samples`)."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np

from demo.clips import encode_frames, encode_picture, generate_clip, h264
from demo.shapes import LABELS, render_picture

MEDIA_FOLDER = Path(__file__).parent / "media"
SEED = 10


def main() -> None:
    """Write sample.mp4, sample.jpg and labels.json."""
    clip = generate_clip(SEED, LABELS.index("rotating clockwise"))
    MEDIA_FOLDER.mkdir(exist_ok=True)
    (MEDIA_FOLDER / "sample.mp4").write_bytes(encode_frames(clip.frames, clip.fps, h264(23)))
    (MEDIA_FOLDER / "sample.jpg").write_bytes(encode_picture(render_picture(np.random.default_rng(SEED))))
    labels = {"sample.mp4": clip.label, "sample.jpg": "still"}
    (MEDIA_FOLDER / "labels.json").write_text(json.dumps(labels, indent=2) + "\n")


if __name__ == "__main__":
    main()

"""Write the sample media that the demo and the documentation use (`python -m demo.samples`)."""

from __future__ import annotations

import argparse
import json
from pathlib import Path

import numpy as np

from demo.clips import encode_frames, encode_picture, generate_clip, h264
from demo.scene_files import encode_jpeg, generate_scene
from demo.scenes import SCENE_LABELS
from demo.shapes import LABELS, render_picture

MEDIA_FOLDER = Path(__file__).parent / "media"
SEED = 10
# A landscape with three of the five shapes in it.
SCENE = 27


def main() -> None:
    """Write sample.mp4 and sample.jpg with labels.json, scene.jpg with shares.json."""
    argparse.ArgumentParser(description=f"{__doc__} Replaces those in {MEDIA_FOLDER}.").parse_args()
    clip = generate_clip(SEED, LABELS.index("rotating clockwise"))
    MEDIA_FOLDER.mkdir(exist_ok=True)
    (MEDIA_FOLDER / "sample.mp4").write_bytes(encode_frames(clip.frames, clip.fps, h264(23)))
    (MEDIA_FOLDER / "sample.jpg").write_bytes(encode_picture(render_picture(np.random.default_rng(SEED))))
    labels = {"sample.mp4": clip.label, "sample.jpg": "still"}
    (MEDIA_FOLDER / "labels.json").write_text(json.dumps(labels, indent=2) + "\n")
    scene = generate_scene(SEED, SCENE)
    (MEDIA_FOLDER / "scene.jpg").write_bytes(encode_jpeg(scene.picture, 90))
    drawn = {label: float(np.mean(scene.mask == index)) for index, label in enumerate(SCENE_LABELS)}
    shares = {label: round(share, 4) for label, share in drawn.items() if share > 0}
    (MEDIA_FOLDER / "shares.json").write_text(json.dumps({"scene.jpg": shares}, indent=2) + "\n")


if __name__ == "__main__":
    main()

"""Measure the served masks: POST freshly generated scenes to a server (`python -m demo.evaluate_segmentation`).

The torch network answers the same files too, decoded by Pillow and by the papers' whole-picture test, so that whatever
the server's decoding, resizing, runtime and mask encoding change shows as a difference.
"""

from __future__ import annotations

import argparse
import io
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from functools import partial

import httpx
import numpy as np
from numpy.typing import NDArray
from PIL import Image
from tqdm import tqdm

from demo.evaluate import CLIENTS, EVALUATION_SEED
from demo.local_server import local_server
from demo.mean_iou import MeanIoU
from demo.scene_files import generate_scene_file
from demo.scenes import SCENE_LABELS
from demo.train_segmentation import NAME
from demo.training import WEIGHTS_FOLDER
from demo.whole_picture import segment
from models import Network, create_model, load_checkpoint


def served_mask(client: httpx.Client, content: bytes) -> NDArray[np.uint8]:
    """Return the server's mask (H, W) for an encoded picture."""
    answer = client.post(f"/v1/models/{NAME}/segment", params={"output": "png"}, content=content)
    answer.raise_for_status()
    with Image.open(io.BytesIO(answer.content)) as mask:
        return np.asarray(mask, dtype=np.uint8)


def torch_mask(network: Network, content: bytes) -> NDArray[np.uint8]:
    """Return the torch network's mask (H, W) for an encoded picture."""
    with Image.open(io.BytesIO(content)) as picture:
        return segment(network, np.asarray(picture.convert("RGB")))


def main() -> None:
    """Generate, POST, compare; print both means and their difference."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--scenes", type=int, default=200, help="scenes to generate (%(default)s)")
    parser.add_argument("--seed", type=int, default=EVALUATION_SEED, help="of the scenes (%(default)s)")
    parser.add_argument("--port", type=int, default=8017, help="port of the server under test (%(default)s)")
    arguments = parser.parse_args()
    count = arguments.scenes
    with ProcessPoolExecutor() as processes:
        made = processes.map(partial(generate_scene_file, arguments.seed), range(count), chunksize=8)
        scenes = list(tqdm(made, total=count, desc="generating", unit="scene"))
    served, torch = MeanIoU(len(SCENE_LABELS)), MeanIoU(len(SCENE_LABELS))
    with (
        local_server(arguments.port) as server,
        httpx.Client(base_url=server.url, timeout=60, trust_env=False) as client,
        ThreadPoolExecutor(CLIENTS) as threads,
    ):
        answers = threads.map(partial(served_mask, client), (content for content, _ in scenes))
        for (_, truth), answer in tqdm(zip(scenes, answers, strict=True), "asking the server", count, unit="scene"):
            served.add(truth, answer)
    network = create_model(NAME)
    load_checkpoint(network, WEIGHTS_FOLDER / f"{NAME}.safetensors")
    for content, truth in tqdm(scenes, "asking torch", unit="scene"):
        torch.add(truth, torch_mask(network, content))
    print(f"mean IoU of {count} scenes (seed {arguments.seed})")
    print(f"  over HTTP {served.mean:.4f}, torch {torch.mean:.4f}, difference {abs(served.mean - torch.mean):.4f}")
    for label, over_http, in_torch in zip(SCENE_LABELS, served.per_class, torch.per_class, strict=True):
        print(f"  {label:12} over HTTP {over_http:.4f}, torch {in_torch:.4f}")


if __name__ == "__main__":
    main()

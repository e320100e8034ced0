"""Train the demo's segmentation network on generated scenes: `python -m demo.train_segmentation`, from a fixed seed."""

from __future__ import annotations

import argparse
import io
import time
from concurrent.futures import ProcessPoolExecutor
from functools import partial

import av
import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from tqdm import tqdm

from demo import scene_files, scenes, whole_picture
from demo.mean_iou import MeanIoU
from demo.scene_files import generate_scene_file
from demo.scenes import SCENE_LABELS
from demo.storage import replacing, source_digest
from demo.training import DATA_FOLDER, HOLD_OUT_SEED, TRAIN_SEED, WEIGHTS_FOLDER, fit, save_weights
from demo.whole_picture import resize_whole, segment, to_input, whole_picture_rule
from models import Network, create_model
from models.weights import WholePicture

NAME = "uniformer_tiny_shapes_fpn"
HELD_OUT = 200

Example = tuple[NDArray[np.uint8], NDArray[np.uint8]]


def decoded_scene(number: int, seed: int) -> Example:
    """Return the picture (H, W, 3) that FFmpeg, and so the server, makes of scene `number`'s file, and its mask."""
    content, mask = generate_scene_file(seed, number)
    with av.open(io.BytesIO(content), "r") as container:
        frame = next(container.decode(video=0))
    return np.asarray(frame.to_ndarray(format="rgb24"), dtype=np.uint8), mask


def training_example(number: int, seed: int, rule: WholePicture) -> Example:
    """Return a square of scene `number` as the network sees it, and its mask: batches need equal sizes."""
    picture, mask = decoded_scene(number, seed)
    picture = resize_whole(picture, rule)
    height, width = picture.shape[:2]
    side = rule.window
    resized = np.asarray(cv2.resize(mask, (width, height), interpolation=cv2.INTER_NEAREST_EXACT), dtype=np.uint8)
    rng = np.random.default_rng((seed, number, 2))
    top, left = (int(rng.integers(free + 1)) for free in (height - side, width - side))
    return picture[top : top + side, left : left + side], resized[top : top + side, left : left + side]


def load_examples(seed: int, count: int) -> Example:
    """Return squares (count, side, side, 3) and masks (count, side, side) of the set `seed`.

    They are made once, until the code that makes them changes.
    """
    rule = whole_picture_rule(NAME)
    makers = (scenes, scene_files, whole_picture, decoded_scene, training_example)
    file = DATA_FOLDER / f"{NAME}_{seed}_{count}_{source_digest(*makers, settings=rule)}.npz"
    if file.is_file():
        with np.load(file, allow_pickle=False) as stored:
            return stored["pictures"], stored["masks"]
    make = partial(training_example, seed=seed, rule=rule)
    with ProcessPoolExecutor() as pool:
        made = pool.map(make, range(count), chunksize=8)
        examples = list(tqdm(made, total=count, desc=f"scenes of seed {seed}", unit="scene"))
    pictures, masks = (np.stack(arrays) for arrays in zip(*examples, strict=True))
    with replacing(file) as content:
        np.savez(content, pictures=pictures, masks=masks)
    return pictures, masks


def augment(picture: NDArray[np.uint8], mask: NDArray[np.uint8], rng: np.random.Generator) -> Example:
    """Mirror a square, and shuffle its colours: neither changes what a shape is."""
    if rng.random() < 0.5:
        picture, mask = picture[:, ::-1], mask[:, ::-1]
    return picture[..., rng.permutation(3)], mask


def train(
    network: Network, pictures: NDArray[np.uint8], masks: NDArray[np.uint8], epochs: int, batch_size: int, seed: int
) -> None:
    """Train in place with the cross-entropy of every pixel."""
    rng = np.random.default_rng(seed)

    def step(numbers: NDArray[np.int64]) -> tuple[Tensor, float]:
        pairs = [augment(pictures[i], masks[i], rng) for i in numbers]
        target = torch.from_numpy(np.stack([mask for _, mask in pairs])).long()
        logits = network(to_input(np.stack([picture for picture, _ in pairs]), network))
        right = (logits.argmax(dim=1) == target).float().mean()
        return nn.functional.cross_entropy(logits, target), float(right)

    fit(network, step, len(pictures), epochs, batch_size, 1.4e-3, rng)


def measure(network: Network, seed: int, count: int) -> MeanIoU:
    """Return the mean IoU of whole scenes of the set `seed`, at their own sizes."""
    network.eval()
    result = MeanIoU(len(SCENE_LABELS))
    for number in tqdm(range(count), desc=f"scenes of seed {seed}", unit="scene"):
        picture, mask = decoded_scene(number, seed)
        result.add(mask, segment(network, picture))
    return result


def main() -> None:
    """Generate the scenes, train, measure on held-out scenes, write the weights."""
    parser = argparse.ArgumentParser(description=f"{__doc__} Replaces {NAME}.safetensors in {WEIGHTS_FOLDER}.")
    parser.add_argument("--scenes", type=int, default=4000, help="training scenes to generate (%(default)s)")
    parser.add_argument("--epochs", type=int, default=18, help="passes over the scenes (%(default)s)")
    parser.add_argument("--seed", type=int, default=0, help="of initial weights and augmentation (%(default)s)")
    arguments = parser.parse_args()
    begin = time.monotonic()
    pictures, masks = load_examples(TRAIN_SEED, arguments.scenes)
    torch.manual_seed(arguments.seed)
    network = create_model(NAME)
    network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    train(network, pictures, masks, arguments.epochs, batch_size=16, seed=arguments.seed)
    file = save_weights(network)
    result = measure(network, HOLD_OUT_SEED, HELD_OUT)
    print(f"mean IoU of {HELD_OUT} held-out scenes: {result.mean:.4f}")
    for label, iou in zip(SCENE_LABELS, result.per_class, strict=True):
        print(f"  {iou:.4f}  {label}")
    print(f"wrote {file} after {(time.monotonic() - begin) / 60:.1f} minutes")


if __name__ == "__main__":
    main()

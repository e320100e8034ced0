"""Train the demo's classifiers on generated clips: `python -m demo.train [NAME...]`, on a CPU, from fixed seeds."""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from demo.arguments import one_of
from demo.dataset import load_examples
from demo.recipes import RECIPES, Recipe
from demo.shapes import MIRRORED, RED_BLUE_SWAPPED, REVERSED, TRANSPOSED, UPSIDE_DOWN
from demo.training import DATA_FOLDER, HOLD_OUT_SEED, TRAIN_SEED, WEIGHTS_FOLDER, fit, save_weights
from models import Network, create_model, load_labels, model_entry

SEED = 0  # of initial weights and augmentation
HELD_OUT = 220

# Changes of a clip (T, H, W, 3) whose effect on what happens in it is known exactly; each multiplies the data by two
# and teaches the very differences that the classes are about. Outlines stay what they are.
_SYMMETRIES: tuple[tuple[Callable[[NDArray[np.uint8]], NDArray[np.uint8]], dict[str, str]], ...] = (
    (lambda clip: clip[:, :, ::-1], MIRRORED),
    (lambda clip: clip[:, ::-1], UPSIDE_DOWN),
    (lambda clip: clip.transpose(0, 2, 1, 3), TRANSPOSED),
    (lambda clip: clip[::-1], REVERSED),
    (lambda clip: clip[..., ::-1], RED_BLUE_SWAPPED),
)
_MOST_SHIFT = 0.05  # of the input's side


def augment(clip: NDArray[np.uint8], label: str, rng: np.random.Generator) -> tuple[NDArray[np.uint8], str]:
    """Apply a random subset of the symmetries and a shift of a few pixels."""
    for change, labels in _SYMMETRIES:
        if rng.random() < 0.5:
            clip, label = change(clip), labels.get(label, label)
    most = round(_MOST_SHIFT * clip.shape[1])
    shift = tuple(int(value) for value in rng.integers(-most, most + 1, 2))
    return np.roll(clip, shift, axis=(1, 2)), label


def to_input(views: NDArray[np.uint8], network: Network) -> Tensor:
    """Return views (B, T, H, W, 3) as float32 (B, 3, T, H, W), for image networks (B, 3, H, W).

    They are normalised as the exported graph does it.
    """
    weights = model_entry(network.name).weights
    mean, std = (torch.tensor(values) for values in (weights.preprocessing.mean, weights.preprocessing.std))
    x = ((torch.from_numpy(np.ascontiguousarray(views)).float() / 255 - mean) / std).movedim(-1, 1)
    if weights.task == "image_classification":
        return x[:, :, 0]
    return x.contiguous(memory_format=torch.channels_last_3d)


@torch.inference_mode()
def predict(network: Network, views: NDArray[np.uint8]) -> NDArray[np.int64]:
    """Return the predicted label numbers (N,) of the views (N, views, T, H, W, 3) of clips, by their mean logits."""
    network.eval()
    answers = [network(to_input(views_of_one, network)).mean(dim=0).argmax() for views_of_one in views]
    return np.asarray(torch.stack(answers).numpy())


def train(
    network: Network, views: NDArray[np.uint8], labels: NDArray[np.int64], recipe: Recipe, names: tuple[str, ...]
) -> None:
    """Train in place with label smoothing; every view (N, views, T, H, W, 3) is an example of its own."""
    rng = np.random.default_rng(SEED)
    examples, of_example = views.reshape(-1, *views.shape[2:]), labels.repeat(views.shape[1])
    criterion = nn.CrossEntropyLoss(label_smoothing=0.05)

    def step(numbers: NDArray[np.int64]) -> tuple[Tensor, float]:
        pairs = [augment(examples[i], names[of_example[i]], rng) for i in numbers]
        target = torch.tensor([names.index(label) for _, label in pairs])
        logits = network(to_input(np.stack([clip for clip, _ in pairs]), network))
        right = (logits.argmax(dim=1) == target).float().mean()
        return criterion(logits, target), float(right)

    fit(network, step, len(examples), recipe.epochs, recipe.batch_size, recipe.peak_rate, rng, warm_up=recipe.warm_up)


def print_confusions(predicted: NDArray[np.int64], truth: NDArray[np.int64], names: tuple[str, ...]) -> None:
    """Print how often each label was taken for each other one."""
    for wrong in sorted({(int(t), int(p)) for t, p in zip(truth, predicted, strict=True) if t != p}):
        times = int(((truth == wrong[0]) & (predicted == wrong[1])).sum())
        print(f"  {names[wrong[0]]} taken for {names[wrong[1]]}: {times}")


def train_one(name: str) -> None:
    """Generate the clips, train network `name`, measure on held-out clips, write the weights."""
    begin = time.monotonic()
    recipe, weights = RECIPES[name], model_entry(name).weights
    names = load_labels(weights.labels)
    views, labels = load_examples(TRAIN_SEED, recipe.clips, name, DATA_FOLDER)
    torch.manual_seed(SEED)
    network = create_model(name)
    recipe.prepare(network)
    train(network, views, labels, recipe, names)
    file = save_weights(network)
    held_out, truth = load_examples(HOLD_OUT_SEED, HELD_OUT, name, DATA_FOLDER)
    predicted = predict(network, held_out)
    print(f"{name}: {np.mean(predicted == truth):.2%} of {len(truth)} held-out clips right")
    print_confusions(predicted, truth, names)
    print(f"wrote {file} after {(time.monotonic() - begin) / 60:.1f} minutes", flush=True)


def main() -> None:
    """Train one after the other."""
    parser = argparse.ArgumentParser(description=f"{__doc__} Replaces their files in {WEIGHTS_FOLDER}.")
    parser.add_argument(
        "names", type=one_of(RECIPES), metavar="NAME", nargs="*", help=f"of {', '.join(RECIPES)}; none means all"
    )
    arguments = parser.parse_args()
    for name in arguments.names or RECIPES:
        train_one(name)


if __name__ == "__main__":
    main()

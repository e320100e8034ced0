"""Train the demo's video classifier on generated clips: `python -m demo.train`, two CPU cores, from a fixed seed."""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from demo.dataset import load_examples
from demo.shapes import LABELS, MIRRORED, RED_BLUE_SWAPPED, REVERSED, TRANSPOSED, UPSIDE_DOWN
from demo.training import DATA_FOLDER, HOLD_OUT_SEED, TRAIN_SEED, fit, save_weights
from models import Network, create_model, model_entry


def _label_map(changes: dict[str, str]) -> NDArray[np.int64]:
    return np.array([LABELS.index(changes.get(label, label)) for label in LABELS])


# Changes of a clip (T, H, W, 3) whose effect on the label is known exactly; each multiplies the data by two and teaches
# the very differences that the classes are about.
_SYMMETRIES: tuple[tuple[Callable[[NDArray[np.uint8]], NDArray[np.uint8]], NDArray[np.int64]], ...] = (
    (lambda clip: clip[:, :, ::-1], _label_map(MIRRORED)),
    (lambda clip: clip[:, ::-1], _label_map(UPSIDE_DOWN)),
    (lambda clip: clip.transpose(0, 2, 1, 3), _label_map(TRANSPOSED)),
    (lambda clip: clip[::-1], _label_map(REVERSED)),
    (lambda clip: clip[..., ::-1], _label_map(RED_BLUE_SWAPPED)),
)


def augment(clip: NDArray[np.uint8], label: int, rng: np.random.Generator) -> tuple[NDArray[np.uint8], int]:
    """Apply a random subset of the symmetries and a shift of a few pixels."""
    for change, labels in _SYMMETRIES:
        if rng.random() < 0.5:
            clip, label = change(clip), int(labels[label])
    shift = tuple(int(value) for value in rng.integers(-5, 6, 2))
    return np.roll(clip, shift, axis=(1, 2)), label


def to_input(clips: NDArray[np.uint8], network: Network) -> Tensor:
    """Return float32 (B, 3, T, H, W), normalised as the exported graph does it."""
    preprocessing = model_entry(network.name).weights.preprocessing
    mean, std = (torch.tensor(values).view(1, 3, 1, 1, 1) for values in (preprocessing.mean, preprocessing.std))
    x = torch.from_numpy(np.ascontiguousarray(clips)).permute(0, 4, 1, 2, 3).float() / 255
    return ((x - mean) / std).contiguous(memory_format=torch.channels_last_3d)


@torch.inference_mode()
def predict(network: Network, clips: NDArray[np.uint8]) -> NDArray[np.int64]:
    """Return the predicted label numbers (N,) of clips (N, T, H, W, 3)."""
    network.eval()
    parts = [network(to_input(clips[i : i + 32], network)).argmax(dim=1) for i in range(0, len(clips), 32)]
    return np.asarray(torch.cat(parts).numpy())


def train(
    network: Network, clips: NDArray[np.uint8], labels: NDArray[np.int64], epochs: int, batch_size: int, seed: int
) -> None:
    """Train in place with label smoothing."""
    rng = np.random.default_rng(seed)
    criterion = nn.CrossEntropyLoss(label_smoothing=0.05)

    def step(numbers: NDArray[np.int64]) -> tuple[Tensor, float]:
        pairs = [augment(clips[i], int(labels[i]), rng) for i in numbers]
        target = torch.tensor([label for _, label in pairs])
        logits = network(to_input(np.stack([clip for clip, _ in pairs]), network))
        right = (logits.argmax(dim=1) == target).float().mean()
        return criterion(logits, target), float(right)

    fit(network, step, len(clips), epochs, batch_size, 2e-3, rng)


def print_confusions(predicted: NDArray[np.int64], labels: NDArray[np.int64]) -> None:
    """Print how often each label was taken for each other one."""
    for wrong in sorted({(int(t), int(p)) for t, p in zip(labels, predicted, strict=True) if t != p}):
        times = int(((labels == wrong[0]) & (predicted == wrong[1])).sum())
        print(f"  {LABELS[wrong[0]]} taken for {LABELS[wrong[1]]}: {times}")


def main() -> None:
    """Generate the clips, train, measure on held-out clips, write the weights."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--name", default="uniformer_tiny_shapes", help="registered network to train")
    parser.add_argument("--clips", type=int, default=3300, help="training clips to generate (%(default)s)")
    parser.add_argument("--epochs", type=int, default=14, help="passes over the clips (%(default)s)")
    parser.add_argument("--seed", type=int, default=0, help="of initial weights and augmentation (%(default)s)")
    arguments = parser.parse_args()
    begin = time.monotonic()
    clips, labels = load_examples(TRAIN_SEED, arguments.clips, arguments.name, DATA_FOLDER)
    torch.manual_seed(arguments.seed)
    network = create_model(arguments.name)
    network.to(memory_format=torch.channels_last_3d)  # type: ignore[call-overload]
    train(network, clips, labels, arguments.epochs, batch_size=32, seed=arguments.seed)
    held_out, truth = load_examples(HOLD_OUT_SEED, 440, arguments.name, DATA_FOLDER)
    predicted = predict(network, held_out)
    print(f"held-out clips: {np.mean(predicted == truth):.2%} right of {len(truth)}")
    print_confusions(predicted, truth)
    print(f"wrote {save_weights(network)} after {(time.monotonic() - begin) / 60:.1f} minutes")


if __name__ == "__main__":
    main()

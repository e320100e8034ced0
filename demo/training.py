"""What both trainings share: the optimiser and its schedule, and the file that they write."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors.torch import save
from torch import Tensor, nn
from tqdm import tqdm

from demo.storage import replacing
from models import Network

WEIGHTS_FOLDER = Path(__file__).parent / "weights"
DATA_FOLDER = Path(__file__).parent / "data"
# What is measured over HTTP has other seeds (demo/evaluate*.py).
TRAIN_SEED, HOLD_OUT_SEED = 1, 2

Step = Callable[[NDArray[np.int64]], tuple[Tensor, float]]


def fit(
    network: Network,
    step: Step,
    examples: int,
    epochs: int,
    batch_size: int,
    peak_rate: float,
    rng: np.random.Generator,
    warm_up: float = 0.2,
) -> None:
    """Train in place with AdamW and a one-cycle learning rate.

    Args:
        network: What is trained.
        step: Given the numbers of a batch's examples, returns their loss and the share that the network got right.
        examples: How many there are.
        epochs: Passes over the examples.
        batch_size: Examples a step; what is left over of a pass is left out.
        peak_rate: Highest learning rate, reached at the end of the warm-up.
        rng: Shuffles the examples.
        warm_up: Share of the steps in which the rate rises.
    """
    steps = examples // batch_size
    optimizer = torch.optim.AdamW(network.parameters(), weight_decay=0.05)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, peak_rate, epochs * steps, pct_start=warm_up)
    for epoch in range(epochs):
        network.train()
        order = rng.permutation(examples)[: steps * batch_size].reshape(steps, batch_size)
        progress = tqdm(order, desc=f"epoch {epoch + 1}/{epochs}", unit="batch")
        right = 0.0
        for done, numbers in enumerate(progress, 1):
            loss, share = step(numbers)
            optimizer.zero_grad()
            loss.backward()  # type: ignore[no-untyped-call]
            nn.utils.clip_grad_norm_(network.parameters(), 1.0)
            optimizer.step()
            schedule.step()
            right += share
            progress.set_postfix(loss=f"{loss.item():.3f}", right=f"{right / done:.3f}")


def save_weights(network: Network) -> Path:
    """Round the network's weights to half precision and write them under its registered name; return the file.

    Half the bytes in the repository, and what is measured afterwards is what the file holds.
    """
    file = WEIGHTS_FOLDER / f"{network.name}.safetensors"
    state = network.state_dict()
    rounded = {key: value.half() if value.is_floating_point() else value for key, value in state.items()}
    network.load_state_dict(rounded)
    with replacing(file) as content:
        content.write(save({key: value.contiguous() for key, value in rounded.items()}))
    return file

"""How each classifier of the demo is trained; `python -m demo.train` reads this table."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from models import Network
from models.morphmlp import randomise_time


@dataclass(frozen=True)
class Recipe:
    """What differs from network to network.

    Attributes:
        epochs: Passes over the training clips.
        peak_rate: Highest learning rate.
        clips: Training clips.
        batch_size: Examples a step.
        warm_up: Share of the steps that the rate takes to its highest.
        prepare: Changes the fresh network before the training.
    """

    epochs: int
    peak_rate: float
    clips: int = 2200
    batch_size: int = 32
    warm_up: float = 0.2
    prepare: Callable[[Network], None] = lambda _: None


RECIPES = {
    "uniformer_tiny_shapes": Recipe(epochs=14, peak_rate=2e-3, clips=3300),
    "uniformer_light_tiny_shapes": Recipe(epochs=16, peak_rate=2e-3),
    "morphmlp_tiny_shapes": Recipe(epochs=14, peak_rate=2e-3, prepare=randomise_time),
    "mvit_tiny_shapes": Recipe(epochs=18, peak_rate=1e-3, batch_size=16, warm_up=0.1),
    "mlp3d_tiny_shapes": Recipe(epochs=40, peak_rate=5e-4, batch_size=16, warm_up=0.03),
    "smlpnet_tiny_shapes": Recipe(epochs=24, peak_rate=2e-3),
}

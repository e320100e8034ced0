"""What the configurations of several families must keep to.

Every check raises ValueError with the field, its value and what to give instead.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any


def check_stages(config: Any, *fields: str) -> None:
    """Refuse fields that have not one entry for each of the four stages."""
    for field in fields:
        value = getattr(config, field)
        if len(value) != 4:
            raise ValueError(f"{field}={value}: the network has four stages, so give four values, not {len(value)}")


def check_minimum(config: Any, least: int, *fields: str, why: str = "") -> None:
    """Refuse fields, or entries of fields, below `least`; None means that something is left out, and passes.

    Args:
        config: Configuration.
        least: What the numbers must reach.
        fields: Names of its fields.
        why: Reason, for people.
    """
    for field in fields:
        value = getattr(config, field)
        numbers = value if isinstance(value, Sequence) else (value,)
        if any(number is not None and number < least for number in numbers):
            each = " everywhere" if isinstance(value, Sequence) else ""
            raise ValueError(f"{field}={value}: {f'{why}, so ' if why else ''}give {least} or more{each}")


def check_heads(head_dim: int, dims: Sequence[int]) -> None:
    """Refuse a width of attention heads that does not divide the channels of the stages that have attention."""
    if head_dim < 1 or any(dim % head_dim for dim in dims):
        raise ValueError(
            f"head_dim={head_dim}: attention splits {' and '.join(map(str, dims))} channels (embed_dims) into heads, "
            "so give a divisor of each"
        )


def check_choice(config: Any, field: str, known: Sequence[str]) -> None:
    """Refuse a word that has no meaning, which would build another network in silence."""
    value = getattr(config, field)
    if value not in known:
        raise ValueError(f"{field}={value!r} is not known: give {' or '.join(map(repr, known))}")


def check_image_backbone(backbone: Any) -> None:
    """Refuse the configuration of a video network as the backbone of one that takes pictures."""
    if backbone.num_frames is not None:
        raise ValueError(f"backbone has num_frames={backbone.num_frames} and is to take pictures: set it to None")

"""What the configurations of several families must keep to.

Every check raises ValueError with the field, its value and what to give instead.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import fields, is_dataclass
from numbers import Integral
from types import NoneType, UnionType
from typing import Any, get_args, get_origin, get_type_hints

# How people are told what a field, or a sequence, takes.
_ONE = {int: "a whole number", NoneType: "None", bool: "True or False"}
_SEVERAL = {int: "whole numbers", bool: "True or False"}


def check_types(config: Any) -> None:
    """Refuse fields that are not of their annotated types, in the configurations within a configuration too.

    Words pass (`check_choice` knows them), and so do annotations of other generic types.
    """
    hints = get_type_hints(type(config))
    for field in fields(config):
        value = getattr(config, field.name)
        if not _is_of(value, hints[field.name]):
            raise ValueError(f"{field.name}={value!r}: give {_describe(hints[field.name])}")
        if is_dataclass(value):
            check_types(value)


def _is_of(value: Any, hint: Any) -> bool:
    if get_origin(hint) is UnionType:
        return any(_is_of(value, one) for one in get_args(hint))
    if get_origin(hint) is tuple:
        is_sequence = isinstance(value, Sequence) and not isinstance(value, str)
        return is_sequence and all(_is_of(one, get_args(hint)[0]) for one in value)
    if hint is int:
        return isinstance(value, Integral) and not isinstance(value, bool)
    return isinstance(value, hint) if isinstance(hint, type) else True


def _describe(hint: Any) -> str:
    if get_origin(hint) is UnionType:
        return " or ".join(_describe(one) for one in get_args(hint))
    if get_origin(hint) is tuple:
        return f"a sequence of {_SEVERAL[get_args(hint)[0]]}"
    return _ONE[hint] if hint in _ONE else str(hint.__name__)


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
    check_known(field, getattr(config, field), known)


def check_known(name: str, value: object, known: Sequence[str]) -> None:
    """Refuse a value of the setting `name` that is none of `known`."""
    if value not in known:
        raise ValueError(f"{name}={value!r} is not known: give {' or '.join(map(repr, known))}")


def check_image_backbone(backbone: Any) -> None:
    """Refuse the configuration of a video network as the backbone of one that takes pictures."""
    if backbone.num_frames is not None:
        raise ValueError(f"backbone has num_frames={backbone.num_frames} and is to take pictures: set it to None")

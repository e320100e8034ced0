"""What pydantic finds wrong with given data, in the words that people get: the place, the value, what it may be."""

from __future__ import annotations

from collections.abc import Iterable
from difflib import get_close_matches

from pydantic_core import ErrorDetails

_LONGEST_VALUE = 80
_MISSING = ("missing", "union_tag_not_found")


def described(item: ErrorDetails, place: str, *, hidden: bool = False) -> str:
    """Return place, value and what is wrong with it, in one line.

    Args:
        item: Of `ValidationError.errors()`.
        place: What to call the place; empty: nothing, all of the data.
        hidden: Do not show the value.
    """
    if item["type"] in _MISSING:
        # The input is not a value here, but what lacks it.
        return f"{place}: is required"
    value = _value(item)
    shown = "=(hidden)" if hidden else "" if isinstance(value, dict) else f"={value!r:.{_LONGEST_VALUE}}"
    return f"{place}{shown}: {reason(item)}" if place else reason(item)


def meant(name: str, known: Iterable[str]) -> str:
    """Return what to say of a name that is not known: which one may be meant, or which there are."""
    names = list(known)
    close = similar(name, names)
    return f"did you mean {close}?" if close else f"there are {', '.join(names) or 'none'}"


def similar(name: str, known: Iterable[str]) -> str | None:
    """Return the known name that is most like one that is not known; None if none is."""
    return next(iter(get_close_matches(name, list(known), n=1)), None)


def reason(item: ErrorDetails) -> str:
    """Return what is wrong with a value."""
    if item["type"] == "extra_forbidden":
        return "nothing is called so here"
    if item["type"] == "union_tag_invalid":
        return f"should be one of {item['ctx']['expected_tags']}"
    return item["msg"].removeprefix("Value error, ").replace("Input should", "should", 1)


def _value(item: ErrorDetails) -> object:
    return item["ctx"]["tag"] if item["type"] == "union_tag_invalid" else item["input"]

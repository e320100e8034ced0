"""What the command lines of the demo and the benchmarks have in common."""

from __future__ import annotations

from argparse import ArgumentTypeError
from collections.abc import Callable, Collection


def one_of(names: Collection[str]) -> Callable[[str], str]:
    """Return a `type` of argparse that takes one of these names.

    It is for arguments of which there may be none: with `choices`, argparse asks whether the empty list is among them.
    """

    def checked(text: str) -> str:
        if text not in names:
            raise ArgumentTypeError(f"{text!r} is none of {', '.join(names)}")
        return text

    return checked

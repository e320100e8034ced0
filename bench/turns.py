"""Contestants that take turns on the same cores, and how what they took is put into figures."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Hashable, Mapping, Sequence
from statistics import median
from time import perf_counter
from typing import TypeVar

from tqdm import trange

Key = TypeVar("Key", bound=Hashable)

_WAIT_POLICY = "OMP_WAIT_POLICY"


def restart_with_passive_threads() -> None:
    """Start this program again with OpenMP's threads asleep while they wait, unless the environment says how they do.

    By default torch's threads go on looking for work for some milliseconds after a run, on the cores that the next
    contestant runs on. OpenMP reads the environment when torch is imported: later it is too late.
    """
    if _WAIT_POLICY not in os.environ:
        os.execve(sys.executable, sys.orig_argv, {**os.environ, _WAIT_POLICY: "PASSIVE"})  # noqa: S606


def least_seconds(
    runs: Mapping[Key, Callable[[], object]], rounds: int, clock: Callable[[], float]
) -> dict[Key, float]:
    """Let functions take turns, and return the least time of each, seconds.

    Every other round goes in the opposite order: what one leaves to the next, in caches or in threads that wind down,
    does not always meet the same one.

    Args:
        runs: The functions.
        rounds: Turns of each.
        clock: What counts, in seconds: time.process_time, which other jobs on the machine hardly add to, or
            time.perf_counter.
    """
    least = dict.fromkeys(runs, float("inf"))
    for number in trange(rounds, unit="round", leave=False, disable=None):
        for key in list(runs)[:: -1 if number % 2 else 1]:
            least[key] = min(least[key], seconds_of(runs[key], clock))
    return least


def seconds_of(run: Callable[[], object], clock: Callable[[], float] = perf_counter) -> float:
    """Return the time that a function takes, seconds."""
    began = clock()
    run()
    return clock() - began


def spread(values: Sequence[float], digits: int = 1) -> str:
    """Return the median, the least and the most of turns as text."""
    return f"{median(values):.{digits}f} ({min(values):.{digits}f} to {max(values):.{digits}f})"

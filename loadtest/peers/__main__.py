"""Compare clipserve with other servers of the same model file, in turns.

Each server in turn is started, asked for the label and the frames of a clip, which have to be clipserve's, put under
the load of eight callers and then of one, left by 32 clients, and stopped. None of the others runs meanwhile. Ratios
are those of the turns of one round.
"""

from __future__ import annotations

import argparse
import signal
import sys
from collections.abc import Sequence
from importlib.metadata import version
from pathlib import Path
from statistics import median

from bench.clips import H264_DEFAULTS, make_clip
from bench.turns import spread
from demo.arguments import one_of
from loadtest.peers.contestants import CLIPSERVE, CONTESTANTS, Contestant
from loadtest.peers.turns import CALLERS, LEAVING, Turn, ask, take_turn
from service.machine import available_cores, cpu_model

Round = dict[str, Turn]


def measure(contestants: Sequence[Contestant], clip: bytes, rounds: int, seconds: float) -> list[Round]:
    """Let all take their turns; every other round in the opposite order."""
    expected = ask(CLIPSERVE, clip)
    measured: list[Round] = []
    for number in range(rounds):
        turns = {}
        for contestant in contestants[:: -1 if number % 2 else 1]:
            print(f"round {number + 1} of {rounds}: {contestant.name}", file=sys.stderr, flush=True)
            turns[contestant.name] = take_turn(contestant, clip, expected, seconds)
        measured.append(turns)
    return measured


def table(contestants: Sequence[Contestant], rounds: Sequence[Round]) -> str:
    """Return the medians as a table in Markdown."""
    lines = [
        f"| server | clips/s, {CALLERS} callers | of clipserve's | processor ms a clip | one caller, ms "
        f"| of clipserve's | memory, MB | waited for {LEAVING} that left, s |",
        "| --- " * 8 + "|",
    ]
    for contestant in contestants:
        turns = [turns[contestant.name] for turns in rounds]
        own = [turns[CLIPSERVE.name] for turns in rounds]
        cells = [
            contestant.title,
            spread([turn.rate for turn in turns]),
            f"{median(turn.rate / ours.rate for turn, ours in zip(turns, own, strict=True)):.2f}",
            f"{1000 * median(turn.processor_seconds for turn in turns):.1f}",
            f"{1000 * median(turn.latency for turn in turns):.1f}",
            f"{median(turn.latency / ours.latency for turn, ours in zip(turns, own, strict=True)):.2f}",
            f"{median(turn.memory for turn in turns) / 1e6:.0f}",
            spread([turn.waited for turn in turns], 2),
        ]
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


def chosen(names: Sequence[str]) -> list[Contestant]:
    """Return those with these names, or all, and clipserve in any case; tell of those that cannot take part."""
    contestants = []
    for contestant in CONTESTANTS:
        if names and contestant.name not in names and contestant is not CLIPSERVE:
            continue
        if contestant.missing:
            print(f"{contestant.name} is skipped: {contestant.missing}", file=sys.stderr)
        else:
            contestants.append(contestant)
    return contestants


def main() -> None:
    """Measure those that are asked for."""
    names = [contestant.name for contestant in CONTESTANTS]
    parser = argparse.ArgumentParser(prog="python -m loadtest.peers", description=__doc__)
    parser.add_argument("names", nargs="*", type=one_of(names), metavar="NAME", help=", ".join(names))
    parser.add_argument("--rounds", type=int, default=5, help="turns of each (default %(default)s)")
    parser.add_argument("--clip", type=Path, help="an MP4 file (default: a generated clip of ten seconds, 340x256)")
    parser.add_argument("--seconds", type=float, default=10, help="of each load in a turn (default %(default)s)")
    arguments = parser.parse_args()
    # The servers are in groups of their own, which a signal to this one does not reach.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))
    contestants = chosen(arguments.names)
    clip = arguments.clip.read_bytes() if arguments.clip else make_clip(H264_DEFAULTS)
    rounds = measure(contestants, clip, arguments.rounds, arguments.seconds)
    packages = ["fastapi", "uvicorn", "av", "onnxruntime", *(peer.package for peer in contestants if peer.package)]
    versions = [f"{package} {version(package)}" for package in dict.fromkeys(packages)]
    print(f"{cpu_model()}, {available_cores()} cores; {', '.join(versions)}")
    print(table(contestants, rounds))


if __name__ == "__main__":
    main()

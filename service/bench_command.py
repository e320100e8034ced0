"""`clipserve bench`: how many clips a second a running server answers, and how fast."""

from __future__ import annotations

import argparse
from math import inf
from pathlib import Path

from service.client import KEY_VARIABLE, ClientError, add_server_options, connect, path_of, report_failure
from service.load import Caller, Load, closed_loop

# What a server says that has more to do than it can: a finding, no failure.
_SHED = frozenset({429, 503})


class BenchCommand:
    """`clipserve bench`."""

    help = (
        f"put load on a running server (its key: {KEY_VARIABLE}) and print clips a second and latencies; a client "
        "that is refused waits for as long as it is told to"
    )

    def add_arguments(self, parser: argparse.ArgumentParser) -> None:
        """Take the file, whom to ask, and how much."""
        parser.add_argument("file", type=Path, metavar="FILE", help="video or picture that every request sends")
        add_server_options(parser)
        parser.add_argument(
            "--callers",
            type=_count,
            default=8,
            metavar="N",
            help="clients that wait for their answers (default %(default)s)",
        )
        parser.add_argument(
            "--seconds",
            type=_duration,
            default=10.0,
            metavar="S",
            help="how long is measured, after one second to settle (default %(default)g)",
        )

    def run(self, arguments: argparse.Namespace) -> int:
        """Print what was measured; 1 if there were no answers, or others than results and refusals under load."""
        try:
            body = arguments.file.read_bytes()
            client = connect(arguments)
            path = path_of(client, arguments.model)
            # One by itself first: a file or key that is refused is no load.
            client.post(path, body).content()
        except OSError as error:
            return report_failure(error, arguments.file)
        except ClientError as error:
            return report_failure(error)
        load = closed_loop(lambda: Caller(connect(arguments), path, body), arguments.callers, arguments.seconds)
        print(_shown(load, arguments.callers))
        return 0 if load.latencies and load.statuses.keys() <= {200, *_SHED} else 1


def _count(text: str) -> int:
    number = int(text)
    if number < 1:
        raise argparse.ArgumentTypeError(f"{number}: one at least")
    return number


def _duration(text: str) -> float:
    seconds = float(text)
    if not 0 < seconds < inf:
        raise argparse.ArgumentTypeError(f"{seconds:g}: more than 0, and not for ever")
    return seconds


def _shown(load: Load, callers: int) -> str:
    statuses = ", ".join(f"{count} x {status or 'lost'}" for status, count in sorted(load.statuses.items()))
    lines = [f"answers  {statuses or 'none'}", f"clips/s  {load.rate:.1f}"]
    if refused := sum(load.statuses[status] for status in _SHED):
        share, waited = refused / load.statuses.total(), load.waited / (callers * load.seconds)
        lines.append(
            f"refused  {share:.0%} of the requests; the clients waited {waited:.0%} of the time, as they were told "
            "(Retry-After): fewer --callers tell what it can do"
        )
    if load.latencies:
        percentiles = [f"p{percent} {load.percentile(percent):.3f} s" for percent in (50, 90, 99)]
        lines.append(f"latency  {', '.join(percentiles)}")
    return "\n".join(lines)

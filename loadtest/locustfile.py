"""Closed-loop load on POST /v1/classify: each user posts a clip from memory and goes on when it has the answer.

A server that slows down is asked less, so the figures are throughput and latency for a number of users, not for an
offered rate. They are summed up in this process: run a single one, without --processes.
"""

from __future__ import annotations

import json
import os
import random
import time
from argparse import ArgumentParser
from collections import Counter
from pathlib import Path
from statistics import fmean
from typing import Any

import gevent
import numpy as np
from locust import FastHttpUser, events, task
from locust.env import Environment

from demo.clips import generate_file

SEED = 20
GENERATED_CLIPS = 33  # three of each class
REFUSALS = (429, 503)
# For a server that wants a key.
KEY = os.environ.get("CLIPSERVE_API_KEY")
AUTHORIZATION = {"Authorization": f"Bearer {KEY}"} if KEY else {}
PARTS = ("receive", "decode", "queue", "inference")


class Tally:
    """What the answers of a run add up to."""

    def __init__(self) -> None:
        self.models: set[str] = set()
        self.latencies: list[float] = []
        self.views = 0
        self.batch_sizes: list[int] = []
        self.parts: dict[str, list[float]] = {part: [] for part in PARTS}
        self.refused: Counter[int] = Counter()
        self.started = 0.0
        self.seconds = 0.0

    def add(self, answer: dict[str, Any], latency: float) -> None:
        """Count one classification that took the client `latency` seconds."""
        self.models.add(f"{answer['model']}/{answer['version']}")
        self.latencies.append(latency)
        self.views += len(answer["views"])
        self.batch_sizes.append(answer["batch_size"])
        for part in PARTS:
            self.parts[part].append(answer["timing_seconds"][part])

    def summary(self) -> dict[str, Any]:
        """Return the figures of a run with at least one answer."""
        p50, p95, p99 = np.percentile(self.latencies, (50, 95, 99)).tolist()
        return {
            "model": ", ".join(sorted(self.models)),
            "seconds": self.seconds,
            "clips": len(self.latencies),
            "clips_per_second": len(self.latencies) / self.seconds,
            "views_per_second": self.views / self.seconds,
            "mean_batch_size": fmean(self.batch_sizes),
            "latency_seconds": {"p50": p50, "p95": p95, "p99": p99},
            "mean_seconds": {part: fmean(values) for part, values in self.parts.items()},
            "refused": {str(status): self.refused[status] for status in REFUSALS},
        }


clips: list[bytes] = []
tally = Tally()


class ClipUser(FastHttpUser):
    """One caller."""

    @task
    def classify(self) -> None:
        """Post one clip; when the server refuses it, wait as long as it says."""
        headers = {"Content-Type": "application/octet-stream", **AUTHORIZATION}
        with self.client.post(
            "/v1/classify", data=random.choice(clips), headers=headers, catch_response=True
        ) as response:
            if response.status_code == 200:
                tally.add(response.json(), response.request_meta["response_time"] / 1000)
                return
            if response.status_code not in REFUSALS:
                return  # Locust counts it as a failure.
            tally.refused[response.status_code] += 1
            # A name of its own keeps these quick answers out of the latencies of the real ones.
            response.request_meta["name"] = f"refused with {response.status_code}"
            response.success()
            pause = float(response.headers.get("Retry-After", 1))
        gevent.sleep(pause)


@events.init_command_line_parser.add_listener
def add_arguments(parser: ArgumentParser) -> None:
    """Offer `--summary`."""
    parser.add_argument("--summary", type=Path, metavar="FILE", help="write the run's figures to this JSON file")


@events.init.add_listener
def load_clips(**_: Any) -> None:
    """Fill `clips`, from the folder that CLIPSERVE_CLIPS names if there is one."""
    folder = os.environ.get("CLIPSERVE_CLIPS")
    if folder is None:
        clips.extend(generate_file(SEED, number)[0] for number in range(GENERATED_CLIPS))
    else:
        clips.extend(file.read_bytes() for file in sorted(Path(folder).iterdir()) if file.is_file())
    if not clips:
        raise ValueError(f"CLIPSERVE_CLIPS={folder} holds no file")
    # gevent sets timers by the time that its loop last saw: without this the run would be as much shorter as this took.
    gevent.get_hub().loop.update_now()


@events.test_start.add_listener
def start_clock(**_: Any) -> None:
    """Note when the first user may start."""
    random.seed(SEED)
    tally.started = time.perf_counter()


@events.test_stopping.add_listener
def stop_clock(**_: Any) -> None:
    """Note when the users are told to stop; what is under way then is given up and not counted."""
    tally.seconds = time.perf_counter() - tally.started


@events.quitting.add_listener
def report(environment: Environment, **_: Any) -> None:
    """Print the figures and write them to the file of `--summary`; a run without an answer has failed."""
    assert environment.runner is not None
    assert environment.parsed_options is not None
    errors = environment.stats.total.num_failures
    if not tally.latencies:
        print(f"no clip was answered; refused {dict(tally.refused)}, errors {errors}")
        environment.process_exit_code = 1
        return
    summary = {
        "users": environment.parsed_options.num_users,
        "cores": len(os.sched_getaffinity(0)),
        "seed": SEED,
        "clips_in_turn": len(clips),
        **tally.summary(),
        "errors": errors,
        # Locust took more than 90 % of a core at some time: the figures are the generator's, not the server's.
        "generator_saturated": environment.runner.cpu_warning_emitted,
    }
    print(_text(summary))
    if environment.parsed_options.summary is not None:
        environment.parsed_options.summary.write_text(json.dumps(summary, indent=2) + "\n")


def _text(summary: dict[str, Any]) -> str:
    milliseconds = {
        name: "  ".join(f"{key} {1000 * value:.1f}" for key, value in summary[name].items())
        for name in ("latency_seconds", "mean_seconds")
    }
    refused = ", ".join(f"{count} with {status}" for status, count in summary["refused"].items())
    lines = [
        f"model            {summary['model']}",
        f"clips/s          {summary['clips_per_second']:.1f}  ({summary['clips']} in {summary['seconds']:.1f} s, "
        f"{summary['users']} users)",
        f"views/s          {summary['views_per_second']:.1f}",
        f"mean batch size  {summary['mean_batch_size']:.2f}",
        f"latency, ms      {milliseconds['latency_seconds']}",
        f"mean, ms         {milliseconds['mean_seconds']}",
        f"refused          {refused}",
        f"errors           {summary['errors']}",
    ]
    if summary["generator_saturated"]:
        lines.append("INVALID: Locust itself ran out of CPU")
    return "\n".join(lines)

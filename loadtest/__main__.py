"""Start a server, put load on it with Locust for a while, stop it: `make loadtest`, or `python -m loadtest`.

CLIPSERVE_* variables reach the server (CLIPSERVE_REPOSITORY: which models; CLIPSERVE_DEFAULT_MODEL: which of them) and
Locust (CLIPSERVE_CLIPS: which clips).
"""

from __future__ import annotations

import argparse
import json
import shutil
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

from demo.local_server import end_on_signals, local_server
from demo.run import DEFAULT_MODEL
from service.configuration import read_configuration
from service.machine import cpu_model

FOLDER = Path(__file__).parent
RESULTS = FOLDER / "results"


def default_model() -> str | None:
    """Return the model to be measured: the one that is set, or the demo's classifier if it is there.

    None leaves it to the server, which takes the first by name.
    """
    settings = read_configuration({}).settings
    if settings.default_model or not (settings.repository / DEFAULT_MODEL).is_dir():
        return settings.default_model
    return DEFAULT_MODEL


def run_locust(url: str, users: int, duration: str) -> None:
    """Put load on a server; the figures are printed and written to RESULTS.

    Raises:
        SystemExit: No clip was answered, or there were errors.
    """
    command = [sys.executable, "-m", "locust", "-f", str(FOLDER / "locustfile.py"), "--headless", "--only-summary"]
    command += ["--host", url, "--users", str(users), "--spawn-rate", str(users), "--run-time", duration]
    command += ["--csv", str(RESULTS / "locust"), "--summary", str(RESULTS / "summary.json")]
    log = RESULTS / "locust.log"
    # Locust's own tables go to its log, where nobody needs them unless something fails.
    with log.open("wb") as output:
        run = subprocess.run(command, stdin=subprocess.DEVNULL, stderr=output, check=False)  # noqa: S603
    if run.returncode:
        raise SystemExit(f"{log.read_text(errors='replace')[-3000:]}\nloadtest: failed; see {RESULTS}")


def add_surroundings() -> str:
    """Add the CPU and the commit to the summary, and return them as lines."""
    summary = RESULTS / "summary.json"
    surroundings = {"cpu": cpu_model(), "commit": _commit()}
    summary.write_text(json.dumps({**surroundings, **json.loads(summary.read_text())}, indent=2) + "\n")
    return "\n".join(f"{name:<17}{value}" for name, value in surroundings.items())


def _commit() -> str | None:
    """Return the commit of the source code, with `-dirty` if it was changed since; None outside a repository."""
    command = ["git", "describe", "--always", "--abbrev=40", "--dirty", "--exclude=*"]
    try:
        found = subprocess.run(command, cwd=FOLDER, capture_output=True, text=True, check=False)  # noqa: S603
    except FileNotFoundError:
        return None
    return found.stdout.strip() or None


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure once."""
    parser = argparse.ArgumentParser(
        prog="python -m loadtest",
        description=f"{__doc__}\nThe figures and logs replace those of the last run in {RESULTS}.",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--users", type=int, default=8, help="callers at the same time (%(default)s)")
    parser.add_argument("--duration", default="20s", help="length of the run, as Locust takes it (%(default)s)")
    options = parser.parse_args(arguments)
    end_on_signals()
    shutil.rmtree(RESULTS, ignore_errors=True)
    RESULTS.mkdir()
    with local_server(log=RESULTS / "server.log", default_model=default_model()) as server:
        run_locust(server.url, options.users, options.duration)
    print(add_surroundings())
    print(f"more in {RESULTS}")


if __name__ == "__main__":
    main()

"""Run the command line in a process of its own, with and without a package."""

import os
import re
import subprocess
import sys

from tests.server import ROOT

# Root reads whatever it likes, and tests may run as root.
_WITHOUT_PRIVILEGES = [
    "setpriv",
    *("--bounding-set", "-dac_override,-dac_read_search"),
    *("--inh-caps", "-dac_override,-dac_read_search"),
]


def clipserve(
    *arguments: str, without: str = "", privileged: bool = True, **environment: str
) -> subprocess.CompletedProcess[str]:
    """Run `clipserve` with the arguments in an interpreter that finds no package called `without`.

    One that is not privileged reads as root what any other user could who owns root's files.
    """
    blocked = f"sys.modules[{without!r}] = None; " if without else ""
    return subprocess.run(
        [
            *([] if privileged or os.geteuid() else _WITHOUT_PRIVILEGES),
            sys.executable,
            "-c",
            f"import sys; {blocked}from service.cli import main; sys.exit(main({list(arguments)!r}))",
        ],
        capture_output=True,
        text=True,
        cwd=ROOT,
        env={**os.environ, **environment},
        check=False,
        timeout=120,
    )


def finding(run: subprocess.CompletedProcess[str], name: str) -> str:
    """Return what `clipserve doctor` says of `name`."""
    match = re.search(rf"^  {re.escape(name)} +(.+)$", run.stdout, re.MULTILINE)
    assert match, f"{name} is not in {run.stdout}"
    return match[1]

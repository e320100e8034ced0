"""What the last line of a server that cannot start says."""

import subprocess
import sys
from pathlib import Path

from tests.classifier import write_classifier
from tests.command import clipserve
from tests.server import ROOT

# A server without decode workers whose loading goes on in its thread when that is known, and logs.
LOADS_ON = """
import logging, sys, threading

from service.cli import main
from service.media.pool import DecodePool
from service.repository.loading import Loader

failed = threading.Event()

class Notice(logging.Handler):
    def emit(self, record):
        if record.levelno == logging.CRITICAL:
            failed.set()

def load(self, folder):
    assert failed.wait(60)
    logging.getLogger("library").warning("still loading %s", folder)
    threading.Event().wait()

logging.getLogger("service.app").addHandler(Notice())
Loader._load = load
DecodePool.worker_module = "service.media.nothing"
sys.exit(main(sys.argv[1:]))
"""


def test_every_model_that_cannot_be_served_is_named(tmp_path: Path) -> None:
    for version, name in enumerate(("fine", "other_precision", "broken", "other_runtime"), 1):
        write_classifier(tmp_path, name, version)
    with (tmp_path / "broken/3/labels.txt").open("a") as file:
        file.write("one too many\n")
    own = '{"other_precision": {"precision": "int8"}, "other_runtime": {"precision": "bf16"}}'
    ended = clipserve("serve", "--repository", str(tmp_path), "--port", "0", "--models", own)
    assert ended.returncode == 1
    last = ended.stderr.splitlines()[-1]
    assert "cannot start: broken/3 cannot be served: " in last
    assert "; other_precision/2 cannot be served: " in last
    assert "other_precision/2 has no precision int8; it has fp32" in last
    assert "; other_runtime/4 cannot be served: " in last
    assert "fine" not in last


def test_what_is_wrong_with_all_models_is_said_once(tmp_path: Path) -> None:
    for version, name in enumerate(("a", "b", "c"), 1):
        write_classifier(tmp_path, name, version)
    options = ("--repository", str(tmp_path), "--port", "0", "--runtime", "cuda")
    # Where there is a GPU, it is not to be seen.
    ended = clipserve("serve", *options, CUDA_VISIBLE_DEVICES="")
    assert ended.returncode == 1
    last = ended.stderr.splitlines()[-1]
    assert "cannot start: a/1, b/2, c/3 cannot be served: runtime cuda" in last
    assert last.count("cannot be served") == 1


def test_reason_is_the_last_line_while_a_model_is_still_being_loaded() -> None:
    command = [sys.executable, "-c", LOADS_ON, "serve", "--port", "0"]
    ended = subprocess.run(command, capture_output=True, text=True, cwd=ROOT, check=False, timeout=120)
    assert ended.returncode == 1
    reasons = [line for line in ended.stderr.splitlines() if "cannot start: a decode worker did not start" in line]
    # At once, for it may take long to leave, and at the end.
    assert len(reasons) == 2
    assert "still loading" in ended.stderr.partition(reasons[0])[2].partition(reasons[1])[0]
    assert ended.stderr.splitlines()[-1] == reasons[1]

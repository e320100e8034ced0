"""An export that is interrupted, wherever it stands, leaves the repository as it was."""

import hashlib
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from export.staging import PREFIX, staging
from service.manifest import read_artefact

NAME = "uniformer_tiny_shapes"
ROOT = Path(__file__).parents[2]


def command(repository: Path) -> list[str]:
    options = ["--checkpoint", "demo/weights", "--out", str(repository), "--max-batch-size", "2"]
    return [sys.executable, "-m", "service.cli", "export", NAME, *options]


def content(folder: Path) -> dict[str, str]:
    """Return every path in a folder, with the digest of what is a file."""
    paths = sorted(folder.rglob("*"))
    return {str(path): hashlib.sha256(path.read_bytes()).hexdigest() if path.is_file() else "" for path in paths}


@pytest.fixture
def repository(tmp_path: Path, artefact_repository: Path) -> Path:
    """A repository with a version of the model that is exported."""
    folder = tmp_path / "repository"
    (folder / NAME).mkdir(parents=True)
    for file in (artefact_repository / NAME / "1").iterdir():
        (folder / NAME / "1").mkdir(exist_ok=True)
        (folder / NAME / "1" / file.name).write_bytes(file.read_bytes())
    return folder


def interrupt(repository: Path, step: str, number: signal.Signals) -> int:
    """Export, send a signal shortly after a step is announced, and return the exit status."""
    process = subprocess.Popen(command(repository), stderr=subprocess.PIPE, text=True, cwd=ROOT)
    assert process.stderr is not None
    for line in process.stderr:
        if line.startswith(f"- {step}"):
            time.sleep(0.05)
            process.send_signal(number)
            break
    process.stderr.read()
    process.stderr.close()
    return process.wait()


@pytest.mark.parametrize("step", ["asking", "writing", "verifying"])
def test_killed_export_changes_nothing_and_the_next_one_cleans_up(repository: Path, step: str) -> None:
    before = content(repository)
    assert interrupt(repository, step, signal.SIGKILL) == -signal.SIGKILL
    assert content(repository) == before
    (leftover,) = repository.parent.glob(f"{PREFIX}*")
    (other,) = [repository.parent / f"{PREFIX}of-somebody-else"]
    other.write_bytes(b"no folder")
    with staging(repository):
        assert not leftover.exists()
    assert other.exists()
    assert content(repository) == before


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_interrupted_export_cleans_up_by_itself(repository: Path, number: signal.Signals) -> None:
    before = content(repository)
    # If the signal comes while torch runs code from a string, Python ends by SIGINT after all: 130 to a shell, too.
    assert interrupt(repository, "writing", number) in (130, -signal.SIGINT)
    assert content(repository) == before
    assert list(repository.parent.iterdir()) == [repository]


INTERRUPTED_IN_A_FINALISER = """
import os, signal, sys, time
from export import model_files
from service.cli import main

class Finalised:
    def __del__(self):
        os.kill(os.getpid(), signal.SIGINT)
        time.sleep(0.1)

def ask_torch(*arguments, ask=model_files.torch_cases):
    Finalised()
    return ask(*arguments)

model_files.torch_cases = ask_torch
sys.exit(main(sys.argv[1:]))
"""


def test_export_that_python_does_not_interrupt_ends_at_its_next_step(repository: Path) -> None:
    before = content(repository)
    arguments = command(repository)[3:]
    done = subprocess.run(
        [sys.executable, "-c", INTERRUPTED_IN_A_FINALISER, *arguments], capture_output=True, text=True, cwd=ROOT
    )
    assert "Exception ignored" in done.stderr
    assert done.returncode == 130, done.stderr
    assert "writing" not in done.stderr
    assert content(repository) == before


def test_a_running_export_is_not_taken_for_a_leftover(repository: Path) -> None:
    process = subprocess.Popen(command(repository), stderr=subprocess.PIPE, text=True, cwd=ROOT)
    assert process.stderr is not None
    assert "building" in process.stderr.readline()
    (running,) = repository.parent.glob(f"{PREFIX}*")
    with staging(repository):
        assert running.exists()
    process.stderr.read()
    process.stderr.close()
    assert process.wait() == 0
    assert read_artefact(repository / NAME / "2").manifest.version == "2"


@pytest.mark.parametrize("kind", ["parent", "link"])
def test_artefact_is_made_beside_the_folder_that_is_meant(tmp_path: Path, kind: str) -> None:
    meant, other = tmp_path / "disk/repository", tmp_path / "other"
    (meant / "below").mkdir(parents=True)
    other.mkdir()
    (other / "link").symlink_to(meant)
    given = meant / "below/.." if kind == "parent" else other / "link"
    with staging(given) as stage:
        assert stage.folder.parents[1] == tmp_path / "disk"
        assert stage.put_in_place("model", lambda _: None) == given / "model/1"
    assert (meant / "model/1").is_dir()


BOUND = """
mount --bind {volume} {mounted} || exit 77
exec {python} -c '
import sys
from pathlib import Path
from export.staging import staging
with staging(Path("{mounted}")) as stage:
    (stage.folder / "file").write_bytes(b"content")
    print(stage.put_in_place("model", lambda _: None))
'
"""


def test_repository_may_be_another_mount_of_the_same_disk(tmp_path: Path) -> None:
    volume, mounted = tmp_path / "volume", tmp_path / "mounted"
    volume.mkdir()
    mounted.mkdir()
    script = BOUND.format(volume=volume, mounted=mounted, python=sys.executable)
    run = subprocess.run(["unshare", "-m", "sh", "-c", script], capture_output=True, text=True, cwd=ROOT, check=False)
    if "unshare" in run.stderr or run.returncode == 77:
        pytest.skip(f"no mount of its own can be had here: {run.stderr}")
    assert run.stdout.strip() == str(mounted / "model" / "1"), run.stderr
    assert (volume / "model" / "1" / "file").read_bytes() == b"content"
    assert [path.name for path in volume.iterdir()] == ["model"]


CHANGES = """
import json, os, sys
repository, changes, busy = sys.argv[1], [], False
EVENTS = {"os.mkdir", "os.rename", "os.link", "os.symlink", "os.remove", "os.rmdir", "os.chmod", "os.truncate", "open"}

def watch(event, arguments):
    if event not in EVENTS or (event == "open" and not arguments[2] & (os.O_WRONLY | os.O_RDWR | os.O_CREAT)):
        return
    paths = [os.path.abspath(os.fspath(path)) for path in arguments[:2] if isinstance(path, (str, os.PathLike))]
    if any(path.startswith(repository + os.sep) for path in paths):
        changes.append(event)

sys.addaudithook(watch)
from service.cli import main
options = ["--checkpoint", "demo/weights", "--out", repository, "--max-batch-size", "2"]
status = main(["export", "uniformer_tiny_shapes", *options])
print(json.dumps([status, changes]))
"""


@pytest.mark.parametrize("is_new", [False, True])
def test_one_rename_is_all_that_changes_the_repository(repository: Path, is_new: bool) -> None:
    if is_new:
        repository = repository.parent / "another"
    run = subprocess.run(
        [sys.executable, "-c", CHANGES, str(repository)], capture_output=True, text=True, cwd=ROOT, check=True
    )
    assert json.loads(run.stdout.splitlines()[-1]) == [0, ["os.rename"]]
    assert [path.name for path in repository.iterdir()] == [NAME]
    assert os.stat(repository / NAME).st_mode & 0o777 == 0o755

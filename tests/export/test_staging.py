"""Where artefacts are made: what is in the way is told early, several exports at once, leftovers."""

import fcntl
import os
import subprocess
import sys
from pathlib import Path

import pytest

from export.errors import ExportError
from export.staging import PREFIX, check_free, staging
from tests.command import clipserve

NAME = "uniformer_tiny_shapes"
ROOT = Path(__file__).parents[2]


@pytest.fixture
def repository(tmp_path: Path) -> Path:
    folder = tmp_path / "repository"
    folder.mkdir()
    return folder


@pytest.mark.parametrize(
    ("kind", "reason"),
    [
        ("file", "is no folder"),
        ("link to nothing", "is no folder"),
        ("closed", f"cannot be read and written to by user id {os.geteuid()}"),
        ("elsewhere", "is on another file system than {place}, where artefacts are made, and no rename leads into it"),
    ],
)
def test_what_is_in_the_way_of_the_model_is_told_before_any_work(repository: Path, kind: str, reason: str) -> None:
    home = repository / NAME
    if kind == "file":
        home.write_bytes(b"")
    elif kind == "link to nothing":
        home.symlink_to(repository / "nothing")
    elif kind == "closed":
        home.mkdir(mode=0o555)
    elif Path("/dev/shm").stat().st_dev == repository.stat().st_dev:
        pytest.skip("no second file system is here")
    else:
        home.symlink_to("/dev/shm")
    run = clipserve("export", NAME, "--out", str(repository), privileged=False)
    cure = "put a plain folder in its place, or name another repository (--out)"
    assert run.stderr == f"clipserve export: {home} {reason.format(place=repository.parent)}: {cure}\n"
    assert run.returncode == 1


def test_folder_of_the_model_may_be_a_link_on_the_same_file_system(repository: Path) -> None:
    (repository.parent / "meant").mkdir()
    (repository / "model").symlink_to(repository.parent / "meant")
    check_free(repository / "model", 3)
    with staging(repository) as stage:
        stage.put_in_place("model", lambda _: None, 3)
    assert (repository.parent / "meant/3").is_dir()


def test_link_to_nothing_is_no_repository(tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to(tmp_path / "nothing")
    for out, reason in (
        ("link", "is no folder that can be written to"),
        ("link/below", "cannot be made or written to"),
    ):
        run = clipserve("export", NAME, "--out", str(tmp_path / out))
        assert run.stderr.startswith(f"clipserve export: {tmp_path / out} {reason} (--out)")
        assert len(run.stderr.splitlines()) == 1


@pytest.mark.parametrize("is_new", [True, False])
def test_exports_that_end_at_once_take_different_numbers(repository: Path, is_new: bool) -> None:
    if not is_new:
        (repository / "model/4").mkdir(parents=True)
    taken = []
    with staging(repository) as first, staging(repository) as second:
        for stage, text in ((first, "first"), (second, "second")):
            (stage.folder / "file").write_text(text)

        def overtaken(number: str) -> None:
            if not taken:
                taken.append(second.put_in_place("model", lambda _: None).name)
            taken.append(number)

        assert first.put_in_place("model", overtaken) == repository / "model" / taken[-1]
    assert taken == (["1", "1", "2"] if is_new else ["5", "5", "6"])
    assert [(repository / "model" / number / "file").read_text() for number in taken[1:]] == ["second", "first"]


@pytest.mark.parametrize("name", ["lock", "scratch", "artefact", "model"])
def test_model_may_be_called_as_anything_in_the_temporary_folder(repository: Path, name: str) -> None:
    with staging(repository) as stage:
        (stage.folder / "file").touch()
        stage.put_in_place(name, lambda _: None)
    assert [str(path.relative_to(repository / name)) for path in (repository / name).rglob("*")] == ["1", "1/file"]
    assert os.listdir(repository.parent) == ["repository"]


def test_chosen_number_that_is_taken_at_the_last_moment_is_refused(repository: Path) -> None:
    with staging(repository) as first, staging(repository) as second:
        for stage, text in ((first, "first"), (second, "second")):
            (stage.folder / "file").write_text(text)
        with pytest.raises(ExportError, match=r"model/7 is there already, and versions are never changed: .+ makes 8"):
            first.put_in_place("model", lambda _: second.put_in_place("model", lambda _: None, 7) and None, 7)
    assert (repository / "model/7/file").read_text() == "second"
    assert os.listdir(repository / "model") == ["7"]
    assert os.listdir(repository.parent) == ["repository"]


def test_folder_above_may_be_locked_by_others(repository: Path) -> None:
    """As by `flock FOLDER clipserve export ...` of a cron job."""
    descriptor = os.open(repository.parent, os.O_RDONLY)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        script = (
            f"from pathlib import Path; from export.staging import staging\nwith staging(Path({str(repository)!r})): 0"
        )
        subprocess.run([sys.executable, "-c", script], cwd=ROOT, check=True, timeout=60)
    finally:
        os.close(descriptor)


def test_export_of_another_host_is_not_taken_for_a_leftover(repository: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """NFS tells one host of the other's locks of regular files, and not of those of folders."""
    flock = fcntl.flock

    def of_files_alone(descriptor: int, operation: int) -> None:
        if not os.path.isdir(f"/proc/self/fd/{descriptor}"):
            flock(descriptor, operation)

    monkeypatch.setattr(fcntl, "flock", of_files_alone)
    with staging(repository) as here:
        with staging(repository):
            pass
        assert here.folder.exists()


def test_leftovers_of_every_moment_are_removed(repository: Path) -> None:
    without_lock, unlocked, half_removed = (repository.parent / f"{PREFIX}{number}" for number in range(3))
    without_lock.mkdir()
    for folder in (unlocked, half_removed):
        folder.mkdir()
        (folder / "lock").touch()
    (half_removed / "scratch/below").mkdir(parents=True)
    (half_removed / "scratch/below/file").touch()
    with staging(repository):
        assert len(list(repository.parent.glob(f"{PREFIX}*"))) == 1
    assert os.listdir(repository.parent) == ["repository"]


def test_link_that_is_called_as_a_leftover_is_left_alone(repository: Path, tmp_path: Path) -> None:
    (tmp_path / "precious/work").mkdir(parents=True)
    (tmp_path / "precious/lock").touch()
    (repository.parent / f"{PREFIX}link").symlink_to(tmp_path / "precious")
    with staging(repository):
        pass
    assert sorted(os.listdir(tmp_path / "precious")) == ["lock", "work"]


def test_folder_that_is_removed_before_it_is_locked_is_made_again(
    repository: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    flock, others = fcntl.flock, iter([True])

    def late(descriptor: int, operation: int) -> None:
        if next(others, False):
            # Another export comes by, and goes.
            with staging(repository):
                assert len(list(repository.parent.glob(f"{PREFIX}*"))) == 1
        flock(descriptor, operation)

    monkeypatch.setattr(fcntl, "flock", late)
    with staging(repository) as stage:
        assert stage.put_in_place("model", lambda _: None).is_dir()
    assert os.listdir(repository.parent) == ["repository"]


def test_files_are_on_the_disk_before_they_are_in_the_repository(
    repository: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fsync, home, written = os.fsync, repository / "model", []

    def noted(descriptor: int) -> None:
        written.append((Path(os.readlink(f"/proc/self/fd/{descriptor}")).name, home.exists()))
        fsync(descriptor)

    monkeypatch.setattr(os, "fsync", noted)
    with staging(repository) as stage:
        (stage.folder / "model.onnx").write_bytes(b"weights")
        stage.put_in_place("model", lambda _: (stage.folder / "manifest.json").write_bytes(b"{}") and None)
    assert {name for name, in_place in written if not in_place} >= {"model.onnx", "manifest.json"}
    assert {name for name, in_place in written if in_place} == {"model", "repository"}

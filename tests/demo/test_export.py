"""`python -m demo.export` replaces the demo's artefacts when all are there anew; the exports are made up."""

import signal
from pathlib import Path

import pytest

from demo import export
from demo.recipes import RECIPES
from demo.training import WEIGHTS_FOLDER

NAMES = {file.stem for file in WEIGHTS_FOLDER.glob("*.safetensors")}


@pytest.fixture
def repository(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A repository with an old artefact of every network of the demo, and one of somebody else's."""
    folder = tmp_path / "model_repository"
    for name in (*NAMES, "another"):
        (folder / name / "1").mkdir(parents=True)
        (folder / name / "1/manifest.json").write_text("old")
    monkeypatch.setattr(export, "REPOSITORY", folder)
    monkeypatch.setattr(export, "labelled_clips", lambda labels, count: tmp_path / labels)
    return folder


def contents(repository: Path) -> dict[str, str]:
    """Return what is written in the artefacts; the test fails if anything else lies there or beside the repository."""
    assert list(repository.parent.iterdir()) == [repository]
    manifests = list(repository.glob("*/1/manifest.json"))
    assert len(manifests) == len(list(repository.iterdir()))
    return {file.parts[-3]: file.read_text() for file in manifests}


def make_up(arguments: list[str]) -> int:
    """Write artefacts as `clipserve export` would."""
    assert arguments[0] == "export"
    options = arguments.index("--checkpoint")
    out = Path(arguments[arguments.index("--out") + 1])
    for name in arguments[1:options]:
        assert ("--calibration" in arguments) == (name in RECIPES)
        (out / name / "1").mkdir(parents=True)
        (out / name / "1/manifest.json").write_text("new")
    return 0


OLD = dict.fromkeys([*NAMES, "another"], "old")


def test_all_are_replaced_and_nothing_else_is(repository: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(export, "clipserve", make_up)
    assert export.main([]) == 0
    assert contents(repository) == dict.fromkeys(NAMES, "new") | {"another": "old"}


@pytest.mark.parametrize("status", [1, 128 + signal.SIGINT])
def test_one_that_fails_leaves_all_as_they_were(repository: Path, monkeypatch: pytest.MonkeyPatch, status: int) -> None:
    def fail_at_last(arguments: list[str]) -> int:
        make_up(arguments)
        return 0 if "--calibration" in arguments else status

    monkeypatch.setattr(export, "clipserve", fail_at_last)
    assert export.main([]) == status
    assert contents(repository) == OLD


def test_an_interrupt_is_the_end_of_all(repository: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    runs = []

    def interrupted(arguments: list[str]) -> int:
        runs.append(arguments)
        return 128 + signal.SIGINT

    monkeypatch.setattr(export, "clipserve", interrupted)
    assert export.main([]) == 128 + signal.SIGINT
    assert len(runs) == 1
    assert contents(repository) == OLD


@pytest.mark.parametrize("at", range(2 * len(NAMES)))
def test_an_interrupted_replacement_leaves_a_whole_artefact_of_each(
    repository: Path, monkeypatch: pytest.MonkeyPatch, at: int
) -> None:
    rename = Path.rename
    done = []

    def interrupted(self: Path, target: Path) -> Path:
        done.append(target)
        if len(done) == at + 1:
            raise KeyboardInterrupt
        return rename(self, target)

    monkeypatch.setattr(export, "clipserve", make_up)
    monkeypatch.setattr(Path, "rename", interrupted)
    with pytest.raises(KeyboardInterrupt):
        export.main([])
    found = contents(repository)
    assert found.keys() == OLD.keys()
    assert list(found.values()).count("new") == at // 2


def test_a_first_export_needs_no_repository(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(export, "REPOSITORY", tmp_path / "model_repository")
    monkeypatch.setattr(export, "labelled_clips", lambda labels, count: tmp_path / labels)
    monkeypatch.setattr(export, "clipserve", make_up)
    assert export.main([]) == 0
    assert contents(tmp_path / "model_repository") == dict.fromkeys(NAMES, "new")

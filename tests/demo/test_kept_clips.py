"""Generated clips are kept for the next run, and made anew when the code that makes them is another."""

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from demo import train_segmentation
from demo.clips import generate_example, generate_file
from demo.labelled import LABELS_FILE, kept_clips
from tests.server import ROOT

SEED = 79


def test_clips_are_made_once(tmp_path: Path) -> None:
    folder = kept_clips(tmp_path, 2, SEED, "shapes")
    given = json.loads((folder / LABELS_FILE).read_text())
    assert list(given.values()) == [generate_file(SEED, number)[1] for number in (0, 1)]
    assert all((folder / name).stat().st_size > 1000 for name in given)
    times = [file.stat().st_mtime_ns for file in sorted(folder.iterdir())]
    assert kept_clips(tmp_path, 2, SEED, "shapes") == folder
    assert [file.stat().st_mtime_ns for file in sorted(folder.iterdir())] == times


def test_each_generator_has_clips_of_its_own(tmp_path: Path) -> None:
    # The first training example is a picture.
    folders = [kept_clips(tmp_path, 1, SEED, "shapes", generate) for generate in (generate_file, generate_example)]
    assert (folders[0] / "00000").read_bytes() != (folders[1] / "00000").read_bytes()


@pytest.mark.parametrize("edited", ["shapes.py", "clips.py"])
def test_an_edited_generator_makes_new_clips(tmp_path: Path, edited: str) -> None:
    shutil.copytree(ROOT / "demo", tmp_path / "demo", ignore=shutil.ignore_patterns("data", "media", "weights"))
    code = "from pathlib import Path; from demo.labelled import kept_clips; kept_clips(Path('kept'), 1, 79, 'shapes')"

    def names() -> set[str]:
        subprocess.run([sys.executable, "-c", code], cwd=tmp_path, check=True, stderr=subprocess.DEVNULL)
        return {folder.name for folder in (tmp_path / "kept").iterdir()}

    before = names()
    assert names() == before
    with (tmp_path / "demo" / edited).open("a") as file:
        file.write("\nEDITED = True\n")
    assert len(before) == 1
    assert len(names()) == 2


def test_edited_scenes_are_made_anew(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(train_segmentation, "DATA_FOLDER", tmp_path)
    train_segmentation.load_examples(SEED, 1)
    rule = train_segmentation.whole_picture_rule

    def smaller(name: str) -> object:
        return type(rule(name))(64, 256, "stretch", window=64)

    monkeypatch.setattr(train_segmentation, "whole_picture_rule", smaller)
    pictures, _ = train_segmentation.load_examples(SEED, 1)
    assert pictures.shape == (1, 64, 64, 3)
    assert len(list(tmp_path.iterdir())) == 2

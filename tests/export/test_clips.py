"""Folders of media files for `--calibration`: what is decoded of them, and what labels.json may say."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from demo.labelled import write_clips
from export.clips import read_clips
from export.errors import ExportError
from models import load_labels, model_entry
from tests.server import ROOT

NAME = "uniformer_tiny_shapes"
SAMPLE = ROOT / "demo/media/sample.mp4"
VIEW = (8, 96, 96, 3)
KNOWN = ("dog", "cat", "cow", "hen")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Two clips without labels, whose names are no numbers, or another's number."""
    folder = tmp_path / "clips"
    write_clips(folder, 2, seed=99)
    (folder / "labels.json").unlink()
    (folder / "00000").rename(folder / "file")
    (folder / "00001").rename(folder / "0")
    return folder


@pytest.fixture
def unplayable(tmp_path: Path) -> Path:
    """Files that fail whoever decodes them."""
    folder = tmp_path / "unplayable"
    folder.mkdir()
    for name in ("a.mp4", "b.mp4"):
        (folder / name).write_bytes(b"no clip")
    return folder


def test_of_every_file_one_view_is_decoded(folder: Path) -> None:
    """However many views the network's protocol has."""
    assert model_entry("mvit_b_16x4_charades").weights.views.clips > 1
    assert [view.shape for view in read_clips(folder, "mvit_b_16x4_charades", ()).views] == [(16, 224, 224, 3)] * 2
    assert [view.shape for view in read_clips(folder, "uniformer_s_in1k", ()).views] == [(224, 224, 3)] * 2
    assert [view.ndim for view in read_clips(folder, "uniformer_tiny_shapes_fpn", ()).views] == [3, 3]


def test_what_file_managers_leave_is_passed_over(folder: Path) -> None:
    for name in (".DS_Store", "._file", ".directory"):
        (folder / name).write_bytes(b"of a file manager")
    (folder / "labels.json").write_text(json.dumps({"file": "dog", "0": "cat"}))
    clips = read_clips(folder, NAME, KNOWN)
    assert [view.shape for view in clips.views] == [VIEW] * 2
    assert clips.labels == [1, 0]


def test_labels_may_begin_with_a_byte_order_mark(folder: Path) -> None:
    (folder / "labels.json").write_bytes(b"\xef\xbb\xbf" + json.dumps({"file": "hen", "0": "cow"}).encode())
    assert read_clips(folder, NAME, KNOWN).labels == [2, 3]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (
            b'{"a.mp4": "dog", "b.mp4": "god"}',
            f"labels.json: 'b.mp4': 'god' is none of the 4 labels of {NAME} (dog, cat, cow, ...)",
        ),
        (b'{"a.mp4": ["dog"], "b.mp4": "dog"}', "labels.json: 'a.mp4': ['dog'] is none of the 4 labels of"),
        (b'{"a.mp4": "dog"}', "labels.json gives no label for 'b.mp4': it must name every media file of the folder"),
        (b'["dog", "dog"]', 'labels.json must be an object that gives every file a label, {"FILE": "LABEL", ...}'),
        (b'{"a.mp4": "dog"', "labels.json is no JSON in UTF-8: "),
        (b'{"a.mp4": "caf\xe9"}', "labels.json is no JSON in UTF-8: "),
    ],
)
def test_labels_of_no_use_are_named_before_any_file_is_decoded(unplayable: Path, content: bytes, message: str) -> None:
    (unplayable / "labels.json").write_bytes(content)
    with pytest.raises(ExportError, match=re.escape(message)):
        read_clips(unplayable, NAME, KNOWN)


def test_one_file_is_too_few(unplayable: Path) -> None:
    (unplayable / "b.mp4").unlink()
    with pytest.raises(ExportError, match="holds 1 media files: one half calibrates, the other is measured on"):
        read_clips(unplayable, NAME, load_labels("shapes"))


def test_decoder_that_is_killed_is_not_told_of_batches(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It holds one file's pixels, whatever the largest batch is."""
    site = folder.parent / "site"
    site.mkdir()
    (site / "sitecustomize.py").write_text(
        "import os, signal, sys\nif 'service.media.extract' in sys.orig_argv: os.kill(os.getpid(), signal.SIGKILL)\n"
    )
    monkeypatch.setenv("PYTHONPATH", f"{site}:{ROOT}")
    with pytest.raises(ExportError, match=r"status -9; .* memory: leave out the longest videos and the largest pict"):
        read_clips(folder, NAME, KNOWN)


def memory_for(count: int, folder: Path) -> int:
    """Return the most bytes that the decoding of so many copies of a clip, 2.4 MB each, took."""
    from export.clips import _request

    content = json.dumps({"files": [str(SAMPLE)] * count, "request": _request("mvit_b_16x4_k400")})
    command = [sys.executable, "-m", "service.media.extract", str(folder / "views.npz")]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.DEVNULL, text=True, cwd=ROOT) as process:
        assert process.stdin is not None
        process.stdin.write(content)
        process.stdin.close()
        _, status, usage = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
    assert process.returncode == 0
    assert (folder / "views.npz").stat().st_size > count * 2_400_000
    return usage.ru_maxrss * 1024


def test_decoding_holds_the_pixels_of_one_file(tmp_path: Path) -> None:
    assert memory_for(42, tmp_path) - memory_for(2, tmp_path) < 40 * 2_400_000 / 3

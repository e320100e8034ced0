"""What an artefact is made from: files with odd names, and what is no file."""

import hashlib
import json
import os
from pathlib import Path

import pytest

from demo.labelled import write_clips
from export.artefact import make_request
from export.clips import read_clips
from export.errors import ExportError
from export.sources import Sources
from models import load_labels

NAME = "uniformer_tiny_shapes"


def test_names_need_not_be_utf8(tmp_path: Path) -> None:
    checkpoint, clips = tmp_path / os.fsdecode(b"mod\xe8le.pth"), tmp_path / "clips"
    checkpoint.write_bytes(b"weights")
    write_clips(clips, 2, seed=3)
    labels = json.loads((clips / "labels.json").read_text())
    (clips / "labels.json").unlink()
    contents = {f"caf\xe9 {number}".encode("latin-1"): clips / name for number, name in enumerate(labels)}
    for name, file in contents.items():
        file.rename(clips / os.fsdecode(name))
    sources = Sources.look_at(checkpoint, clips)
    sources.check_unchanged()
    assert sources.checkpoint is not None
    assert json.loads(sources.checkpoint.model_dump_json())["file"] == "mod\\udce8le.pth"
    digest = hashlib.sha256()
    for name in sorted(contents):
        content = (clips / os.fsdecode(name)).read_bytes()
        digest.update(name + b"\0" + hashlib.sha256(content).hexdigest().encode() + b"\n")
    assert sources.clips == digest.hexdigest()
    assert len(read_clips(clips, NAME, load_labels("shapes")).views) == 2


def test_checkpoint_that_is_a_pipe_is_refused(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(ExportError, match=r"pipe is no regular file, and it is read more than once: save what comes"):
        make_request(NAME, tmp_path / "pipe")

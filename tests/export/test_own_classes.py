"""`clipserve export --labels`: a checkpoint whose head has other classes than the registered network's."""

from __future__ import annotations

import hashlib
import shutil
import struct
import subprocess
import sys
from pathlib import Path

import httpx
import numpy as np
import pytest
import torch
from torch import Tensor

from export.artefact import make_request
from export.classes import even_hues
from export.errors import ExportError
from export.resume import finished
from models import create_model
from service.manifest import read_artefact
from tests.server import ROOT, serving

NAME, SEGMENTOR = "uniformer_tiny_shapes", "uniformer_tiny_shapes_fpn"
# One holds U+2028, which ends a line for some, but neither for the server nor for an editor.
LABELS = ("crêpe", "tea\u2028pot", "kite", "lamp", "boat")
# What the head says of every clip.
LOGITS = (0.0, 3.0, 1.0, 4.0, 2.0)
# Thirds of the colour circle.
MASK_LABELS = {"sky": (255, 0, 0), "ground": (0, 255, 0), "water": (0, 0, 255)}


def with_constant_head(state: dict[str, Tensor], head: str, logits: tuple[float, ...]) -> dict[str, Tensor]:
    """Return weights of a network that says the same of every view."""
    fixed = {f"{head}.weight": torch.zeros_like(state[f"{head}.weight"]), f"{head}.bias": torch.tensor(logits)}
    return {**state, **fixed}


@pytest.fixture(scope="module")
def sources(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Checkpoints of five and of three classes, their names, and clips with labels."""
    torch.manual_seed(2)
    folder = tmp_path_factory.mktemp("sources")
    classifier = create_model(NAME, num_classes=5).state_dict()
    torch.save({"model": with_constant_head(classifier, "head", LOGITS)}, folder / "five.pth")
    segmentor = create_model(SEGMENTOR, num_classes=3).state_dict()
    torch.save(with_constant_head(segmentor, "decode_head.conv_seg", (0.0, 1.0, 0.5)), folder / "three.pth")
    # As an editor on Windows writes it.
    (folder / "five.txt").write_bytes("\ufeff".encode() + "".join(f"{label}\r\n" for label in LABELS).encode())
    (folder / "three.txt").write_text("\n".join(MASK_LABELS))
    clips = folder / "clips"
    clips.mkdir()
    for name in ("a.mp4", "b.mp4"):
        shutil.copy(ROOT / "demo/media/sample.mp4", clips / name)
    (clips / "labels.json").write_text('{"a.mp4": "kite", "b.mp4": "lamp"}')
    return folder


def export(*arguments: str | Path) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "service.cli", "export", *map(str, arguments), "--max-batch-size", "2"]
    return subprocess.run(command, capture_output=True, text=True, cwd=ROOT, check=False)


@pytest.fixture(scope="module")
def repository(sources: Path) -> Path:
    repository = sources / "repository"
    own = ("--checkpoint", sources / "five.pth", "--labels", sources / "five.txt")
    run = export(NAME, *own, "--calibration", sources / "clips", "--out", repository)
    assert run.returncode == 0, run.stderr
    own = ("--checkpoint", sources / "three.pth", "--labels", sources / "three.txt")
    run = export(SEGMENTOR, *own, "--out", repository)
    assert run.returncode == 0, run.stderr
    # Two of each of three sizes.
    assert " 6 made-up views " in run.stdout
    return repository


def test_server_answers_with_the_given_names_and_colours(repository: Path, tmp_path: Path) -> None:
    with serving(tmp_path, repository=repository) as server:
        clip = (ROOT / "demo/media/sample.mp4").read_bytes()
        answer = httpx.post(f"{server.url}/v1/classify?top_k=5", content=clip, timeout=60)
        scores = np.exp(LOGITS) / np.exp(LOGITS).sum()
        found = {line["label"]: line["score"] for line in answer.json()["predictions"]}
        assert found == pytest.approx(dict(zip(LABELS, scores, strict=True)), abs=1e-4)
        assert next(iter(found)) == "lamp"
        picture = (ROOT / "demo/media/scene.jpg").read_bytes()
        mask = httpx.post(f"{server.url}/v1/segment", content=picture, timeout=60).content
        assert httpx.get(f"{server.url}/v1/models/{SEGMENTOR}").json()["labels"] == list(MASK_LABELS)
    start = mask.index(b"PLTE")
    (size,) = struct.unpack(">I", mask[start - 4 : start])
    assert mask[start + 4 : start + 4 + size][:9] == bytes(sum(MASK_LABELS.values(), ()))


def test_labels_of_the_clips_are_those_of_the_checkpoint(repository: Path) -> None:
    # The second file is measured on, and the head says "lamp" of everything.
    figures = read_artefact(repository / NAME / "1").manifest.precisions["fp32"].on_clips
    assert figures is not None
    assert (figures.clips, figures.accuracy, figures.torch_accuracy) == (1, 1.0, 1.0)


def test_resume_keeps_what_has_the_same_names_and_makes_anew_what_has_others(
    repository: Path, sources: Path, tmp_path: Path
) -> None:
    def is_kept(*names: str) -> bool:
        labels = tmp_path / "labels.txt"
        labels.write_text("\n".join(names))
        request = make_request(
            NAME, sources / "five.pth", max_batch_size=2, calibration=sources / "clips", labels=labels
        )
        return finished(request, repository) is not None

    assert is_kept(*LABELS)
    assert not is_kept(*reversed(LABELS))
    assert not is_kept(*LABELS[:4], "ship")
    assert not is_kept(*LABELS, "ship")
    without_names = make_request(NAME, sources / "five.pth", max_batch_size=2, calibration=sources / "clips")
    assert finished(without_names, repository) is None


def test_segmentor_with_other_colours_is_made_anew(repository: Path, sources: Path) -> None:
    request = make_request(SEGMENTOR, sources / "three.pth", max_batch_size=2, labels=sources / "three.txt")
    made = finished(request, repository)
    assert made is not None
    file = made.folder / "palette.json"
    before, manifest = file.read_text(), (made.folder / "manifest.json").read_text()
    file.write_text(before.replace("255", "254"))
    digests = [hashlib.sha256(text.encode()).hexdigest() for text in (before, file.read_text())]
    (made.folder / "manifest.json").write_text(manifest.replace(*digests))
    assert read_artefact(made.folder).palette[0] == (254, 0, 0)
    assert finished(request, repository) is None
    file.write_text(before)
    (made.folder / "manifest.json").write_text(manifest)


def test_head_of_another_size_says_how_many_names_are_needed(sources: Path, tmp_path: Path) -> None:
    (tmp_path / "four.txt").write_text("a\nb\nc\nd\n")
    told = f"{NAME} was built for 4 (as many as --labels FILE names, or num_classes)"
    for options, whose in (((), f"{NAME} has 11"), (("--labels", tmp_path / "four.txt"), told)):
        run = export(NAME, "--checkpoint", sources / "five.pth", *options, "--out", tmp_path / "repository")
        assert run.returncode == 1
        assert f"five.pth has 5 classes and {whose}: give `clipserve export` a file with 5 names" in run.stderr
        assert not list((tmp_path / "repository").glob("*"))


def test_names_for_several_models_are_refused_before_any_work(sources: Path, tmp_path: Path) -> None:
    run = export("*_tiny_shapes", "--labels", sources / "five.txt", "--out", tmp_path / "repository")
    assert run.returncode == 1
    assert "names the classes of one checkpoint (--labels), and 6 models are meant" in run.stderr
    assert not (tmp_path / "repository").exists()


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        (NAME, b"one\n\nthree\n", r"line 2 of .* is blank"),
        (NAME, b"one\ntwo\n   \n", r"line 3 of .* is blank"),
        (NAME, b"one\ntwo\n one \n", r"line 3 of .* is 'one', as line 1 is"),
        (NAME, "one\u0085two\nthree\n".encode(), r"line 1 of .* has a tab or another control character, 'one\\x85two'"),
        (NAME, b"one\ntwo\x0cthree\n", r"line 2 of .* has a tab or another control character"),
        (NAME, b"0\tone\n1\ttwo\n", r"line 1 of .* has a tab or another control character, '0\\tone'"),
        (NAME, b"one\n", r"has 1 names \(--labels\); the least is 2"),
        (NAME, b"", r"has 0 names \(--labels\); the least is 2"),
        (NAME, b"caf\xe9\ntea\n", r"is no text in UTF-8 with the name of a class in each line"),
        (NAME, None, r"labels.txt cannot be read \(--labels\): No such file"),
        (SEGMENTOR, "".join(f"{number}\n" for number in range(257)).encode(), r"has 257 names .*; the limit is 256"),
    ],
)
def test_file_of_no_use_is_refused(
    name: str, content: bytes | None, message: str, sources: Path, tmp_path: Path
) -> None:
    labels = tmp_path / "labels.txt"
    if content is not None:
        labels.write_bytes(content)
    with pytest.raises(ExportError, match=message):
        make_request(name, sources / "five.pth", labels=labels)


def test_names_without_a_checkpoint_are_refused(sources: Path) -> None:
    with pytest.raises(ExportError, match=r"five.txt names the classes of a checkpoint .* \(--checkpoint\)"):
        make_request(NAME, None, labels=sources / "five.txt")


def test_head_of_zeros_is_refused_in_words(tmp_path: Path) -> None:
    checkpoint = tmp_path / "checkpoint.pth"
    torch.save(with_constant_head(create_model(NAME).state_dict(), "head", (0.0,) * 11), checkpoint)
    run = export(NAME, "--checkpoint", checkpoint, "--out", tmp_path / "repository")
    assert run.returncode == 1
    told = f"torch gives all classes of {NAME} the same logit, 0, so that none is the answer: its head is all zeros"
    assert f"clipserve export: {told}" in run.stderr
    assert not list((tmp_path / "repository").glob("*"))


def test_colours_are_as_many_as_the_classes() -> None:
    assert even_hues(6) == ((255, 0, 0), (255, 255, 0), (0, 255, 0), (0, 255, 255), (0, 0, 255), (255, 0, 255))
    assert all(len(set(even_hues(count))) == count for count in range(2, 257))

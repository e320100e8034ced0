"""Artefacts whose parts contradict each other: what is said of them when they are read."""

import json
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from service.manifest import ManifestError, read_artefact
from tests.classifier import CLASSES, SIDE, write_classifier, write_manifest
from tests.command import clipserve
from tests.segmenter import NAME, write_segmenter

CLIP = {"kind": "dense", "num_frames": 8, "rate": 4}
PICTURE = f'["batch", {SIDE}, {SIDE}, 3]'


def merged(given: Any, changes: Any) -> Any:
    """Return a manifest, or a part of it, with some of its fields changed; of a list the first elements."""
    if isinstance(given, dict) and isinstance(changes, dict):
        return given | {field: merged(given.get(field), change) for field, change in changes.items()}
    if isinstance(given, list) and isinstance(changes, list) and changes and isinstance(changes[0], dict):
        return [*map(merged, given, changes), *given[len(changes) :]]
    return changes


def change_manifest(folder: Path, changes: dict[str, object]) -> None:
    file = folder / "manifest.json"
    file.write_text(json.dumps(merged(json.loads(file.read_text()), changes)))


def refusal(folder: Path) -> str:
    """Return what is wrong with a manifest, in one line that begins with the file's name."""
    with pytest.raises(ManifestError) as refused:
        read_artefact(folder)
    text = str(refused.value)
    assert len(text.splitlines()) == 1
    begin = f"{folder / 'manifest.json'} is not a valid manifest: "
    assert text.startswith(begin)
    return text.removeprefix(begin)


def shape_of_input(*shape: object) -> dict[str, object]:
    return {"inputs": [{"shape": ["batch", *shape]}]}


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        (
            {"preprocessing": {"crop": [16, 24]}},
            f'inputs[0] is uint8 {PICTURE}, should be uint8 ["batch", 1, 16, 24, 3] or ["batch", 16, 24, 3], '
            "as sampling.num_frames and preprocessing.crop say",
        ),
        ({"sampling": CLIP}, f'inputs[0] is uint8 {PICTURE}, should be uint8 ["batch", 8, {SIDE}, {SIDE}, 3], as '),
        (
            {"sampling": CLIP, **shape_of_input(4, SIDE, SIDE, 3)},
            f'inputs[0] is uint8 ["batch", 4, {SIDE}, {SIDE}, 3], should be uint8 ["batch", 8, {SIDE}, {SIDE}, 3], as ',
        ),
        (shape_of_input(3, SIDE, SIDE), f'inputs[0] is uint8 ["batch", 3, {SIDE}, {SIDE}], should be uint8 '),
        ({"inputs": [{"dtype": "float32"}]}, f"inputs[0] is float32 {PICTURE}, should be uint8 "),
        ({"inputs": []}, "inputs=[]: "),
        ({"outputs": []}, "outputs=[]: "),
        ({"outputs": [{"name": "scores"}]}, "outputs should have one called logits, there are scores"),
        (
            {"outputs": [{"shape": ["batch", 5]}]},
            f'logits of outputs is float32 ["batch", 5], should be float32 ["batch", {CLASSES}], '
            f"since num_classes is {CLASSES}",
        ),
        (
            {"preprocessing": {"crop": [0, SIDE]}},
            f"preprocessing: crop (0, {SIDE}) should have sides from 1 to `resize`, which is {SIDE}",
        ),
        (
            {"preprocessing": {"crop": [SIDE, SIDE + 1]}},
            f"preprocessing: crop ({SIDE}, {SIDE + 1}) should have sides from 1 to `resize`, which is {SIDE}",
        ),
        ({"preprocessing": {"resize": 10**9}}, "preprocessing.resize=1000000000: should be less than or equal to 4096"),
        (
            {"sampling": CLIP | {"num_frames": 10**9}},
            "sampling.num_frames=1000000000: should be less than or equal to 1024",
        ),
        (
            {"sampling": {"num_frames": 8}},
            "sampling: num_frames 8 should be 1, since sampling of kind single takes one",
        ),
    ],
)
def test_classifier_that_could_answer_no_upload_is_refused(
    tmp_path: Path, changes: dict[str, object], told: str
) -> None:
    folder = write_classifier(tmp_path, "m", 1)
    change_manifest(folder, changes)
    assert refusal(folder).startswith(told)


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        (
            shape_of_input(128, 128, 3),
            'inputs[0] is uint8 ["batch", 128, 128, 3], should be uint8 ["batch", "height", "width", 3], for pictures',
        ),
        ({"inputs": [{"dtype": "float32"}]}, "inputs[0] is float32 "),
        (
            {"outputs": [{}, {"shape": ["batch", 5, "height/4", "width/4"]}]},
            'logits of outputs is float32 ["batch", 5, "height/4", "width/4"], should be float32 '
            '["batch", 4, "height/4", "width/4"], since num_classes is 4',
        ),
        ({"outputs": [{}, {"name": "scores"}]}, "outputs should have one called logits, there are mask, scores"),
        (
            {"preprocessing": {"short_side": 10**9, "max_long_side": 10**9}},
            "preprocessing.short_side=1000000000: should be less than or equal to 4096",
        ),
        (
            {"preprocessing": {"window": 288}},
            "preprocessing: window 288 must not be more than max_long_side 512, nor its square more than short_side x "
            "max_long_side, 65536",
        ),
    ],
)
def test_segmenter_that_could_answer_no_upload_is_refused(
    tmp_path: Path, changes: dict[str, object], told: str
) -> None:
    write_segmenter(tmp_path)
    change_manifest(tmp_path / NAME / "1", changes)
    assert refusal(tmp_path / NAME / "1").startswith(told)


@pytest.mark.parametrize("shape", [(1, SIDE, SIDE, 3), (SIDE, SIDE, 3)])
def test_network_for_one_frame_may_take_it_as_a_clip_or_a_picture(tmp_path: Path, shape: Sequence[int]) -> None:
    folder = write_classifier(tmp_path, "m", 1)
    change_manifest(folder, shape_of_input(*shape))
    assert read_artefact(folder).manifest.inputs[0].shape == ("batch", *shape)


def test_start_with_a_manifest_that_contradicts_itself_names_the_fields(tmp_path: Path) -> None:
    folder = write_classifier(tmp_path, "m", 1)
    change_manifest(folder, {"preprocessing": {"crop": [16, 24]}})
    ended = clipserve("serve", "--repository", str(tmp_path), "--port", "0")
    assert ended.returncode == 1
    last = ended.stderr.splitlines()[-1]
    assert "cannot start: m/1 cannot be served: " in last
    assert re.search(r"inputs\[0\] is .* should be .* preprocessing\.crop", last)


def write_labels(folder: Path, content: bytes) -> None:
    (folder / "labels.txt").write_bytes(content)
    write_manifest(folder)


@pytest.mark.parametrize("end", ["\n", "\r\n"])
@pytest.mark.parametrize("last", [True, False], ids=["ended", "not ended"])
def test_labels_are_lines_whatever_they_hold(tmp_path: Path, end: str, last: bool) -> None:
    # str.splitlines would end a line at each of these.
    odd = [f"odd{character}label" for character in "\u2028\u2029\x85\x0b\x0c\x1c\x1d\x1e"]
    labels = (*odd, "", *(f"class {number}" for number in range(len(odd) + 1, CLASSES)))
    folder = write_classifier(tmp_path, "m", 1)
    write_labels(folder, (end.join(labels) + (end if last else "")).encode())
    assert read_artefact(folder).labels == labels


def test_empty_file_has_no_labels(tmp_path: Path) -> None:
    folder = write_classifier(tmp_path, "m", 1)
    write_labels(folder, b"")
    with pytest.raises(ManifestError, match=rf"labels\.txt has 0 labels for {CLASSES} classes"):
        read_artefact(folder)


def test_labels_in_another_encoding_are_refused_by_file_and_encoding(tmp_path: Path) -> None:
    folder = write_classifier(tmp_path, "m", 1)
    write_labels(folder, "".join(f"caf\xe9 {number}\n" for number in range(CLASSES)).encode("latin-1"))
    ended = clipserve("serve", "--repository", str(tmp_path), "--port", "0")
    assert ended.returncode == 1
    assert "m/1/labels.txt is not UTF-8 (invalid continuation byte at byte 3)" in ended.stderr.splitlines()[-1]
    assert "Traceback" not in ended.stderr

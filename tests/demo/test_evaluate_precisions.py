"""`python -m demo.evaluate_precisions` fails where a precision costs more than it may; the exports are made up."""

import hashlib
import json
import shutil
from pathlib import Path

import pytest

from demo import evaluate_precisions
from tests.server import REPOSITORY

NAME = "uniformer_tiny_shapes"
FINE = {"fp32": (1000, 900), "fp16": (995, 900), "bf16": (995, 890), "int8": (990, 895)}


def make_artefact(folder: Path, figures: dict[str, tuple[int, int]]) -> Path:
    """Return an artefact whose files agreed with float32, and were right, about so many of 1,000 clips."""
    shutil.copytree(REPOSITORY / NAME / "1", folder)
    manifest = json.loads((folder / "manifest.json").read_text())
    entry = manifest["precisions"]["fp32"]
    for precision, (agreed, right) in figures.items():
        file = "model.onnx" if precision == "fp32" else f"model.{precision}.onnx"
        (folder / file).write_bytes((REPOSITORY / NAME / "1/model.onnx").read_bytes())
        found = {"clips": 1000, "relative_error": 0.01, "top1_agreement": agreed / 1000}
        found |= {"accuracy": right / 1000, "torch_accuracy": 0.9}
        manifest["precisions"][precision] = {**entry, "file": file, "on_clips": found}
        manifest["files"][file] = hashlib.sha256((folder / file).read_bytes()).hexdigest()
    (folder / "manifest.json").write_text(json.dumps(manifest))
    return folder


@pytest.mark.parametrize(
    ("worse", "line"),
    [
        ({}, "every network reaches the aims"),
        ({"fp16": (994, 900)}, f"{NAME} fp16 keeps 99.40% of the first classes of float32; the aim is 99.5%"),
        ({"bf16": (994, 900)}, f"{NAME} bf16 keeps 99.40% of the first classes of float32; the aim is 99.5%"),
        ({"int8": (989, 900)}, f"{NAME} int8 keeps 98.90% of the first classes of float32; the aim is 99.0%"),
        ({"int8": (990, 894)}, f"{NAME} int8 is right about 6 of 1000 clips less; at most 0.5% may go"),
    ],
)
def test_status_tells_whether_the_aims_are_reached(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    worse: dict[str, tuple[int, int]],
    line: str,
) -> None:
    folder = make_artefact(tmp_path / NAME / "1", FINE | worse)
    monkeypatch.setattr(evaluate_precisions, "labelled_clips", lambda labels, count: tmp_path)
    monkeypatch.setattr(evaluate_precisions, "export_all_precisions", lambda name, clips: folder)
    monkeypatch.setattr("sys.argv", ["evaluate_precisions", NAME])
    assert evaluate_precisions.main() == (1 if worse else 0)
    *table, last = capsys.readouterr().out.splitlines()
    assert last == line
    assert len(table) == 2 + len(FINE)

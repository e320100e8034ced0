"""Other servers with the same model file: that they do the same work, and what is printed of them."""

import json
import re
import subprocess
import sys
from fractions import Fraction
from pathlib import Path

import httpx
import pytest

from loadtest.peers import __main__ as command
from loadtest.peers import contestants
from loadtest.peers.full_decode import frame_numbers, read_protocol
from loadtest.peers.onnx_model import ARTEFACT
from loadtest.peers.turns import Expected, take_turn
from service import machine
from service.machine import available_cores
from service.manifest import read_artefact
from service.media.sampling import clip_indices
from tests.server import ROOT, RunningServer

SAMPLE = ROOT / "demo/media/sample.mp4"
WRAPPERS = [each for each in contestants.CONTESTANTS if each is not contestants.CLIPSERVE and not each.package]


def test_picked_frames_are_those_of_the_service() -> None:
    protocol, sampling = read_protocol(ARTEFACT), read_artefact(ARTEFACT).manifest.sampling
    for fps in (Fraction(30), Fraction(25), Fraction(30000, 1001), Fraction(60), Fraction(5)):
        for count in range(1, 400):
            assert frame_numbers(protocol, count, fps) == clip_indices(sampling, count, fps, 0, 1), (count, fps)


@pytest.mark.parametrize("wrapper", WRAPPERS, ids=[each.name for each in WRAPPERS])
def test_wrapper_answers_as_the_server_does(server: RunningServer, wrapper: contestants.Contestant) -> None:
    with wrapper.running(SAMPLE.read_bytes()) as running:
        answer = running.upload.answer(running.port)
        assert running.group.memory() > 50e6
    assert not running.group.is_there()
    expected = json.loads((ROOT / "demo/media/labels.json").read_text())[SAMPLE.name]
    assert answer["predictions"][0]["label"] == expected
    path = "/v1/models/uniformer_tiny_shapes/classify"
    served = httpx.post(server.url + path, content=SAMPLE.read_bytes(), timeout=60).json()
    assert answer["frames"] == served["views"][0]["frames"]
    assert len(answer["predictions"]) == len(served["predictions"]) == 5
    for own, other in zip(answer["predictions"], served["predictions"], strict=True):
        assert own == {**other, "score": pytest.approx(other["score"], abs=1e-4)}


def test_limit_on_cpu_time_holds_for_every_server(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(machine, "cpu_quota", lambda: 1.0)
    told = "from loadtest.peers.onnx_model import told_cores; print(told_cores())"
    with WRAPPERS[0].running(SAMPLE.read_bytes()) as running:
        variables = Path(f"/proc/{running.group.process.pid}/environ").read_bytes().decode().split("\0")
    environment = dict(variable.split("=", 1) for variable in variables if variable)
    found = subprocess.run(
        [sys.executable, "-c", told], env=environment, capture_output=True, text=True, cwd=ROOT, check=False
    )
    assert found.stdout == "1\n", found.stderr


def test_other_frames_end_the_comparison() -> None:
    expected = Expected("rotating clockwise", [0, 1, 2, 3, 4, 5, 6, 7])
    with pytest.raises(SystemExit, match=r"wrapper answers .* not .*\[0, 1, 2, 3, 4, 5, 6, 7\]"):
        take_turn(WRAPPERS[0], SAMPLE.read_bytes(), expected, 1)


def test_table_has_a_row_for_each_server() -> None:
    run = subprocess.run(
        [sys.executable, "-m", "loadtest.peers", "wrapper", "--clip", SAMPLE, "--rounds", "1", "--seconds", "1"],
        capture_output=True,
        text=True,
        cwd=ROOT,
        check=False,
    )
    assert run.returncode == 0, run.stderr
    rows = {cells[0]: cells[1:] for cells in (line.split(" | ") for line in run.stdout.splitlines()) if len(cells) == 8}
    title, rule = list(rows)[:2]
    assert title == "| server"
    del rows[title], rows[rule]
    assert list(rows) == ["| clipserve", "| FastAPI"]
    for rate, ratio, milliseconds, *rest in rows.values():
        assert float(rate.split()[0]) > 0
        assert float(ratio) > 0
        # No more than the cores have; what is counted before and after makes a difference where a second is measured.
        assert 0 < float(rate.split()[0]) * float(milliseconds) / 1000 < 1.3 * available_cores()
        assert all(float(cell.split()[0]) >= 0 for cell in rest)
    assert rows["| clipserve"][1] == "1.00"


def test_server_that_is_not_installed_is_skipped(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(contestants, "find_spec", lambda _: None)
    assert command.chosen(["wrapper", "litserve", "mosec"]) == [contestants.CLIPSERVE, WRAPPERS[0]]
    told = capsys.readouterr().err
    assert re.findall(r"^(\w+) is skipped: .* pip install -c constraints.txt -e '.\[peers\]'$", told, re.MULTILINE) == [
        "litserve",
        "mosec",
    ]

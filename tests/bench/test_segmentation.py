"""The benchmark of segmentation: every size is asked for in turns, and not for the first time."""

import sys
from collections import Counter
from pathlib import Path

import httpx
import pytest

from bench import segmentation
from tests.server import ROOT, link_models

NAME = "uniformer_tiny_shapes_fpn"
SIZES = ((64, 64), (64, 128), (128, 128))


def test_ratios_are_of_requests_that_took_turns(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    asked: dict[str, list[int]] = {}
    post = httpx.post

    def noted(url: str, **options: object) -> httpx.Response:
        asked.setdefault(url, []).append(len(options["content"]))
        return post(url, **options)

    monkeypatch.setattr(httpx, "post", noted)
    monkeypatch.setattr(segmentation, "SIZES", SIZES)
    monkeypatch.setattr(segmentation, "ROUNDS", 2)
    monkeypatch.setattr(sys, "argv", ["segmentation", NAME, "--repository", str(link_models(tmp_path))])
    monkeypatch.chdir(ROOT)
    segmentation.main()
    rows = [line.split() for line in capsys.readouterr().out.splitlines()[1:]]
    assert [row[:2] for row in rows] == [["64x64", "1"], ["128x64", "2"], ["128x128", "4"]]
    assert float(rows[0][3]) == 1
    assert all(float(row[2]) > 0 and float(row[4]) > 50 for row in rows)
    # Seconds of all sizes from one server, once to warm up and then in turns; memory from one each.
    timed, *alone = asked.values()
    small, middle, large = (len(segmentation.noise_picture(*size)) for size in SIZES)
    assert timed == [small, middle, large, small, middle, large, large, middle, small]
    assert Counter(map(tuple, alone)) == Counter([(small,), (middle,), (large,)])

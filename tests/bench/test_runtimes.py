"""The benchmark of one artefact on every runtime."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from bench.runtimes import load
from service.errors import RuntimeLoadError
from service.runtimes.kinds import CPU_KINDS


def test_what_does_not_load_is_left_out(
    artefact_repository: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def refuse(*_: object) -> Any:
        raise RuntimeLoadError("this CPU has no such instructions")

    monkeypatch.setitem(CPU_KINDS, "openvino", replace(CPU_KINDS["openvino"], load=refuse))
    assert set(load(artefact_repository / "uniformer_tiny_shapes" / "1")) == {("onnxruntime", "fp32")}
    assert capsys.readouterr().err == "left out: runtime openvino: this CPU has no such instructions\n"

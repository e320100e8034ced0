"""The cache of model files that are measured."""

from importlib.metadata import version
from pathlib import Path

import pytest

from bench import artefacts
from bench.artefacts import Subject, model_files


def test_files_are_kept_until_what_makes_them_changes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def write(*arguments: object) -> None:
        next(argument for argument in arguments[1:] if isinstance(argument, Path)).write_text("")

    monkeypatch.setattr(artefacts, "CACHE", tmp_path)
    monkeypatch.setattr(artefacts, "_calibration_views", lambda _: [])
    for maker in ("_export", "quantise_everything"):
        monkeypatch.setattr(artefacts, maker, write)
    made: list[str] = []

    def files() -> set[Path]:
        return set(model_files(Subject("smlpnet_tiny_shapes"), ["int8", "bf16"], made.append).values())

    first = files()
    assert len(made) == 3  # and the one that int8 is made of
    assert files() == first
    assert len(made) == 3
    monkeypatch.setattr("export.sources.version", lambda tool: "0.0" if tool == "onnxruntime" else version(tool))
    assert not files() & first
    assert len(made) == 6


def test_title_tells_a_size_that_is_not_the_registry_s() -> None:
    assert Subject("mlp3d_xs_k400").title == "mlp3d_xs_k400"
    assert Subject("mlp3d_xs_k400", size=128).title == "mlp3d_xs_k400, 64x128x128"
    assert Subject("smlpnet_t_in1k", size=160).title == "smlpnet_t_in1k, 160x160"

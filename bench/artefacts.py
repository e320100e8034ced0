"""Model files for measuring speed, made once: untrained networks in fp32, bf16 and int8, kept in a cache folder."""

from __future__ import annotations

import hashlib
import json
import os
import tempfile
from collections.abc import Callable, Collection
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
import onnx
import torch
from numpy.typing import NDArray

from demo.labelled import write_clips
from export.clips import read_clips
from export.graph import export_onnx, input_shape, served_network
from export.quantization import quantise_everything
from export.rewrites import rewritten
from export.sources import tool_versions
from models import Network, create_model
from service.manifest import PrecisionName

CACHE = Path(os.environ.get("XDG_CACHE_HOME", Path.home() / ".cache")) / "clipserve" / "bench"
CALIBRATION_CLIPS = 4
MAX_BATCH_SIZE = 2


@dataclass(frozen=True)
class Subject:
    """A network to measure.

    Attributes:
        name: Registered name.
        size: Height and width of its views; None: those of the registry.
    """

    name: str
    size: int | None = None

    @property
    def view_shape(self) -> tuple[int, ...]:
        """Shape of one view, (..., H, W, 3)."""
        shape = input_shape(self.name)
        return shape if self.size is None else (*shape[:-3], self.size, self.size, 3)

    @property
    def title(self) -> str:
        """Its name, and the frames, height and width of its views where they are not those of the registry."""
        return self.name if self.size is None else f"{self.name}, {'x'.join(map(str, self.view_shape[:-1]))}"

    def network(self) -> Network:
        """Return the network with random weights, the same ones every time."""
        torch.manual_seed(0)
        return create_model(self.name, **({} if self.size is None else {"input_size": self.size}))


def model_files(
    subject: Subject, precisions: Collection[PrecisionName], report: Callable[[str], None]
) -> dict[PrecisionName, Path]:
    """Return the files of a network by precision, of fp32, bf16 and int8, from the cache where they are there.

    Files are kept by the source code and the packages that made them. In int8 every convolution and matrix product is
    quantised: random weights say nothing of which of them accuracy would spare.
    """
    CACHE.mkdir(parents=True, exist_ok=True)
    stem = CACHE / f"{subject.name}-{subject.view_shape[-2]}-{_hash_of_exporter()}"

    def made(kind: str, make: Callable[[Path], None]) -> Path:
        return _make_once(Path(f"{stem}.{kind}.onnx"), make, report)

    def plain() -> Path:
        return made("plain", partial(_export, subject, torch.float32))

    makers: dict[PrecisionName, Callable[[], Path]] = {
        "fp32": lambda: made("fp32", lambda file: onnx.save(rewritten(onnx.load(plain()), "onnxruntime"), file)),
        "bf16": lambda: made("bf16", partial(_export, subject, torch.bfloat16)),
        "int8": lambda: made("int8", lambda file: quantise_everything(plain(), file, _calibration_views(subject))),
    }
    return {precision: makers[precision]() for precision in precisions}


def _make_once(file: Path, make: Callable[[Path], None], report: Callable[[str], None]) -> Path:
    if not file.exists():
        report(f"making {file}")
        with tempfile.TemporaryDirectory(dir=file.parent) as folder:
            made = Path(folder) / file.name
            make(made)
            made.rename(file)
    return file


def _export(subject: Subject, dtype: torch.dtype, file: Path) -> None:
    export_onnx(served_network(subject.network(), dtype), subject.view_shape, MAX_BATCH_SIZE, file, "openvino")


def _calibration_views(subject: Subject) -> list[NDArray[np.uint8]]:
    """Return decoded clips, generated and encoded before, cut to the network's size."""
    with tempfile.TemporaryDirectory() as folder:
        write_clips(Path(folder), CALIBRATION_CLIPS)
        (Path(folder) / "labels.json").unlink()  # the labels are another network's
        views = read_clips(Path(folder), subject.name, ()).views
    height, width = subject.view_shape[-3:-1]
    return [np.ascontiguousarray(view[..., :height, :width, :]) for view in views]


def _hash_of_exporter() -> str:
    """Return a hash of all that a model file is made by, but for the clips of int8: they do not change its speed."""
    tools = json.dumps(tool_versions(), sort_keys=True).encode()
    return hashlib.sha256(tools + Path(__file__).read_bytes()).hexdigest()[:16]

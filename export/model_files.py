"""The model files of one artefact: each precision written, then verified against torch in float32."""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from pathlib import Path

import torch

from export.clips import Clips
from export.engines import check_engine
from export.errors import ExportError
from export.graph import ServedNetwork, export_onnx, input_shape, served_network
from export.manifests import model_file_name
from export.progress import Report
from export.quantization import quantise
from export.rewrites import RuntimeName
from export.verification import ACCEPTANCE, measure_on_clips, torch_cases, verify
from models import Network
from service.manifest import EngineBuilder, Precision, PrecisionName
from service.manifest.parity import class_logits

_DTYPES: dict[PrecisionName, torch.dtype] = {"fp16": torch.float16, "bf16": torch.bfloat16}


class PrecisionWriter:
    """Writes the files of one network.

    Args:
        name: Registered name.
        network: The network, in float32.
        served: The same behind its preprocessing.
        max_batch_size: Largest batch to verify.
        clips: Decoded clips; None: measure on made-up inputs alone, which int8 cannot do with.
        report: Called with a line of text before each step.
        engines: Builders of TensorRT engines that must take every file.
    """

    def __init__(
        self,
        name: str,
        network: Network,
        served: ServedNetwork,
        max_batch_size: int,
        clips: Clips | None,
        report: Report,
        engines: Sequence[EngineBuilder] = (),
    ) -> None:
        self._view_shape = input_shape(name)
        self._network = network
        self._served = served
        self._max_batch_size = max_batch_size
        self._clips = clips
        self._report = report
        self._name = name
        self._engines = engines
        report("asking torch")
        self._cases = torch_cases(name, served)
        self._clip_cases = [] if clips is None else clips.cases(served)

    @property
    def parity(self) -> tuple[float, ...]:
        """What torch says of the parity view, a number a class."""
        return tuple(class_logits(self._cases[0].outputs["logits"][0]).tolist())

    def write(self, precision: PrecisionName, folder: Path) -> Precision:
        """Write and verify the file of a precision in `folder`; its graph suits the runtime that it is verified by.

        Raises:
            ExportError: It cannot be made, TensorRT does not take it, or it differs from torch by more than
                export.verification.ACCEPTANCE.
        """
        file = folder / model_file_name(precision)
        self._report(f"writing {file.name}")
        runtime = ACCEPTANCE[precision].runtime
        calibration_clips, float32_layers = 0, list[str]()
        if precision == "int8":
            if self._clips is None:
                raise ExportError("int8 needs decoded clips")
            views = self._clips.calibration
            with tempfile.TemporaryDirectory() as temporary:
                source = Path(temporary) / model_file_name("fp32")
                self._export(self._served, source, runtime)
                float32_layers = quantise(source, file, views, self._report)
            calibration_clips = len(views)
        else:
            served = self._served
            if precision in _DTYPES:
                served = served_network(self._network, _DTYPES[precision])
            self._export(served, file, runtime)
        self._report(f"verifying {file.name} against torch in another process")
        verification = verify(file, precision, self._cases, self._max_batch_size)
        on_clips = measure_on_clips(file, precision, self._clip_cases) if self._clip_cases else None
        engines = {}
        for builder in self._engines:
            self._report(f"building an engine of {file.name} with {builder}")
            engines[builder] = check_engine(builder, self._name, file, precision, self._max_batch_size)
        return Precision(
            file=file.name,
            runtime=runtime,
            verification=verification,
            on_clips=on_clips,
            calibration_clips=calibration_clips,
            float32_layers=tuple(float32_layers),
            engines=engines,
        )

    def _export(self, served: ServedNetwork, file: Path, runtime: RuntimeName) -> None:
        export_onnx(served, self._view_shape, self._max_batch_size, file, runtime)

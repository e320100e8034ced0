"""The model files of one artefact: each precision written, then verified against torch in float32."""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Self

import torch

from export.clips import Clips
from export.engines import check_engine
from export.graph import ServedNetwork, export_onnx, input_shape, served_network
from export.manifests import model_file_name
from export.progress import Report
from export.quantization import quantise
from export.rewrites import RuntimeName
from export.verification import ACCEPTANCE, Case, check_spread, measure_on_clips, torch_cases, verify
from models import Network
from service.manifest import EngineBuilder, Precision, PrecisionName
from service.manifest.parity import class_logits

_DTYPES: dict[PrecisionName, torch.dtype] = {"fp16": torch.float16, "bf16": torch.bfloat16}


@dataclass(frozen=True)
class ModelFileWriter:
    """Writes the files of one network.

    Attributes:
        network: The network, in float32.
        served: The same behind its preprocessing.
        max_batch_size: Largest batch to verify.
        clips: Decoded clips; None: measure on made-up inputs alone, which int8 cannot do with.
        cases, clip_cases: What torch makes of made-up inputs, and of the clips.
        report: Called with a line of text before each step.
        engines: Builders of TensorRT engines that must take every file.
    """

    network: Network
    served: ServedNetwork
    max_batch_size: int
    clips: Clips | None
    cases: list[Case]
    clip_cases: list[Case]
    report: Report
    engines: Sequence[EngineBuilder]

    @classmethod
    def prepare(
        cls,
        network: Network,
        *,
        max_batch_size: int,
        clips: Clips | None,
        report: Report,
        engines: Sequence[EngineBuilder] = (),
    ) -> Self:
        """Ask torch what the files of a registered network are to answer.

        Raises:
            ExportError: It says the same of every class.
        """
        report("asking torch")
        served = served_network(network)
        cases = torch_cases(network.name, served)
        clip_cases = [] if clips is None else clips.cases(served)
        check_spread(network.name, [*cases, *clip_cases])
        return cls(
            network=network,
            served=served,
            max_batch_size=max_batch_size,
            clips=clips,
            cases=cases,
            clip_cases=clip_cases,
            report=report,
            engines=engines,
        )

    @property
    def parity(self) -> tuple[float, ...]:
        """What torch says of the parity view, a number a class."""
        return tuple(class_logits(self.cases[0].outputs["logits"][0]).tolist())

    def write(self, precision: PrecisionName, folder: Path) -> Precision:
        """Write and verify the file of a precision in `folder`; its graph suits the runtime that it is verified by.

        Raises:
            ExportError: It cannot be made, TensorRT does not take it, or it differs from torch by more than
                export.verification.ACCEPTANCE.
        """
        file = folder / model_file_name(precision)
        self.report(f"writing {file.name}")
        runtime = ACCEPTANCE[precision].runtime
        calibration_clips, float32_layers = 0, list[str]()
        if precision == "int8":
            assert self.clips is not None
            views = self.clips.calibration
            with tempfile.TemporaryDirectory() as temporary:
                source = Path(temporary) / model_file_name("fp32")
                self._export(self.served, source, runtime)
                float32_layers = quantise(source, file, views, self.report)
            calibration_clips = len(views)
        else:
            served = self.served
            if precision in _DTYPES:
                served = served_network(self.network, _DTYPES[precision])
            self._export(served, file, runtime)
        self.report(f"verifying {file.name} against torch in another process")
        verification = verify(file, precision, self.cases, self.max_batch_size)
        on_clips = measure_on_clips(file, precision, self.clip_cases) if self.clip_cases else None
        engines = {}
        for builder in self.engines:
            self.report(f"building an engine of {file.name} with {builder}")
            engines[builder] = check_engine(builder, self.network.name, file, precision, self.max_batch_size)
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
        export_onnx(served, input_shape(self.network.name), self.max_batch_size, file, runtime)

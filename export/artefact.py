"""Make an artefact: build, load, export, verify, and only then put it in place."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from time import perf_counter
from typing import get_args

from export.classes import Classes, own_classes, registered_classes
from export.clips import read_clips
from export.errors import ExportError
from export.manifests import digests_of, make_manifest
from export.model_files import ModelFileWriter
from export.names import is_servable
from export.progress import Report
from export.sources import Sources
from export.staging import check_free, staging
from export.verification import ACCEPTANCE
from models import create_model, list_models, load_checkpoint, model_entry
from service.manifest import (
    LABELS_FILE,
    MANIFEST_FILE,
    NAME_PATTERN,
    PALETTE_FILE,
    EngineBuilder,
    PrecisionName,
)

# A batch of large pictures takes much memory.
DEFAULT_BATCH_SIZE, DEFAULT_BATCH_SIZE_FOR_MASKS = 8, 2


@dataclass(frozen=True)
class ExportRequest:
    """What is to be exported.

    Attributes:
        name: A registered name of a model that classifies or segments.
        sources: The checkpoint, an official file or .safetensors, or none to export untrained weights; and a folder of
            media files (export/clips.py), of which one half gives int8 its ranges and every precision is measured on
            the other.
        classes: What the outputs of the network stand for.
        max_batch_size: Largest batch that is verified, and so the largest that the server will run.
        precisions: Model files to write, in the order of PrecisionName; fp32 is always among them.
        engines: Builders of TensorRT engines that must take every file.
        served_as: What the model goes by, in the repository and for callers.
    """

    name: str
    served_as: str
    sources: Sources
    classes: Classes
    max_batch_size: int
    precisions: tuple[PrecisionName, ...]
    engines: tuple[EngineBuilder, ...] = ()


@dataclass(frozen=True)
class Exported:
    """A finished artefact.

    Attributes:
        folder: Its path.
        seconds: That each precision took to write and verify.
    """

    folder: Path
    seconds: dict[PrecisionName, float]


def make_request(
    name: str,
    checkpoint: Path | None,
    *,
    max_batch_size: int | None = None,
    precisions: Sequence[PrecisionName] = ("fp32",),
    calibration: Path | None = None,
    engines: Sequence[EngineBuilder] = (),
    labels: Path | None = None,
    served_as: str | None = None,
) -> ExportRequest:
    """Return a request that can be carried out: what it names is there; None takes the task's own largest batch.

    The classes are those that `labels` names, a line each, or those that the model is registered with.
    It is served under its registered name if `served_as` gives no other.

    Raises:
        ExportError: A checkpoint, folder or runtime is missing, the labels or the other name are of no use, or the
            server does not answer the model's task.
        OSError: A checkpoint or clip cannot be read.
        ValueError: Unknown name.
    """
    task = model_entry(name).weights.task
    if not is_servable(name):
        raise ExportError(f"{name} is for {task}, which the server does not answer yet")
    if checkpoint is not None and not checkpoint.exists():
        raise ExportError(f"the checkpoint {checkpoint} does not exist; `clipserve models {name}` says where to get it")
    if checkpoint is not None and not checkpoint.is_file():
        raise ExportError(
            f"the checkpoint {checkpoint} is no regular file, and it is read more than once: save what comes out of it "
            "to a file, and give that (--checkpoint)"
        )
    if labels is not None and checkpoint is None:
        raise ExportError(f"{labels} names the classes of a checkpoint (--labels): give that too (--checkpoint)")
    if served_as is not None:
        _check_own_name(served_as, name)
    if calibration is not None and not calibration.is_dir():
        raise ExportError(f"there is no folder {calibration} to take clips from (--calibration)")
    if "int8" in precisions and calibration is None:
        raise ExportError("int8 needs real clips to take its ranges from: give a folder of them (--calibration)")
    for precision in precisions:
        if find_spec(ACCEPTANCE[precision].runtime) is None:
            raise ExportError(
                f"{precision} is verified by OpenVINO, which is not installed: pip install 'clipserve[openvino]'"
            )
    for builder in engines:
        if find_spec(builder) is None:
            extra = builder.replace("_", "-")
            raise ExportError(f"{builder} is not installed: pip install 'clipserve[{extra}]'")
    written = tuple(known for known in get_args(PrecisionName) if known == "fp32" or known in precisions)
    default = DEFAULT_BATCH_SIZE_FOR_MASKS if task == "image_segmentation" else DEFAULT_BATCH_SIZE
    classes = registered_classes(name) if labels is None else own_classes(name, labels)
    sources = Sources.look_at(checkpoint, calibration)
    return ExportRequest(
        name=name,
        served_as=served_as or name,
        sources=sources,
        classes=classes,
        max_batch_size=max_batch_size or default,
        precisions=written,
        engines=tuple(engines),
    )


def _check_own_name(served_as: str, name: str) -> None:
    """Refuse a name that the server would not take, or that tells of another network."""
    if not re.fullmatch(NAME_PATTERN, served_as):
        raise ExportError(
            f"a model cannot be called {served_as!r} (--name): small letters, digits, and after the first of them _.-"
        )
    if served_as != name and served_as in list_models():
        raise ExportError(f"{served_as} is the name of another network than {name} (--name): choose one of your own")


def export_model(request: ExportRequest, repository: Path, report: Report, version: int | None = None) -> Exported:
    """Export a model into a new version of `repository/<name that it is served as>/`.

    Versions are never changed. Everything is made and verified in a staging folder (export/staging.py).

    Args:
        request: What to export.
        repository: Folder that the server reads; made if missing.
        report: Called with a line of text before each step.
        version: Number of the version; None: one more than the newest there.

    Raises:
        ExportError: The version is there already, verification failed, the calibration clips are of no use, or a source
            changed while it was read.
        models.CheckpointError: The checkpoint does not fit.
        OSError: A file cannot be read or written.
    """
    name, classes = request.name, request.classes
    home = repository / request.served_as
    check_free(home, version)
    with staging(repository) as stage:
        report("building the network")
        network = create_model(name, num_classes=len(classes.labels))
        sources = request.sources
        if sources.checkpoint_file is not None:
            report(f"loading {sources.checkpoint_file}")
            load_checkpoint(network, sources.checkpoint_file)
        else:
            report("no checkpoint is given (--checkpoint): the weights are random, and the answers will mean nothing")
        clips = None
        if sources.calibration is not None:
            report(f"decoding the files of {sources.calibration}")
            clips = read_clips(sources.calibration, name, classes.labels)
        sources.check_unchanged()
        writer = ModelFileWriter.prepare(
            network, max_batch_size=request.max_batch_size, clips=clips, report=report, engines=request.engines
        )
        written, seconds = {}, {}
        for precision in request.precisions:
            began = perf_counter()
            written[precision] = writer.write(precision, stage.folder)
            seconds[precision] = perf_counter() - began
        labels = "".join(f"{label}\n" for label in classes.labels)
        (stage.folder / LABELS_FILE).write_text(labels, encoding="utf-8")
        if classes.palette:
            palette = json.dumps(classes.palette) + "\n"
            (stage.folder / PALETTE_FILE).write_text(palette, encoding="utf-8")
        files = digests_of(stage.folder)

        def write_manifest(number: str) -> None:
            manifest = make_manifest(
                name,
                number,
                served_as=request.served_as,
                sources=sources,
                num_classes=len(classes.labels),
                files=files,
                precisions=written,
                parity=writer.parity,
            )
            text = manifest.model_dump_json(indent=2) + "\n"
            (stage.folder / MANIFEST_FILE).write_text(text, encoding="utf-8")

        report(f"putting it into {home}")
        return Exported(stage.put_in_place(request.served_as, write_manifest, version), seconds)

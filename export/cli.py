"""`clipserve export` and `clipserve models`. Importing this module is cheap: torch is imported when a verb runs."""

from __future__ import annotations

import argparse
import logging
import sys
from pathlib import Path
from typing import get_args

from service.manifest import Precision, PrecisionName

DEMO_WEIGHTS = Path("demo/weights")
LARGEST_BATCH = 256


class ExportCommand:
    """Make the artefact folder that the server reads."""

    help = "export a network with its checkpoint into a repository folder"

    def add_arguments(self, parser: argparse.ArgumentParser) -> None:
        """Declare the verb's arguments."""
        parser.add_argument("name", metavar="NAME", help="registered model name, for example uniformer_s_16x4_k400")
        parser.add_argument(
            "--checkpoint",
            type=Path,
            metavar="FILE",
            help=f"official checkpoint or .safetensors; without it {DEMO_WEIGHTS}/NAME.safetensors is taken if there "
            "is one, and untrained weights otherwise",
        )
        parser.add_argument(
            "--out",
            type=Path,
            default=Path("model_repository"),
            metavar="DIR",
            help="repository folder to write into (default %(default)s)",
        )

        parser.add_argument(
            "--max-batch-size",
            type=_batch_size,
            metavar="N",
            help="largest batch to verify, and so the largest that the server will run (default 8; segmentation 2)",
        )

        parser.add_argument(
            "--precision",
            type=_precisions,
            default=("fp32",),
            metavar="LIST",
            help="model files to write, of fp32, fp16, bf16 and int8, separated by commas (default fp32; it is always "
            "written)",
        )
        parser.add_argument(
            "--calibration",
            type=Path,
            metavar="FOLDER",
            help="media files such as the model will see: half of them give int8 its ranges, every precision is "
            "measured on the other half; labels.json among them ({file name: label}) adds accuracy",
        )

    def run(self, arguments: argparse.Namespace) -> int:
        """Export and print where the artefact is and how it compares with torch."""
        from export.artefact import export_model
        from export.errors import ExportError
        from models import CheckpointError
        from service.manifest import read_artefact

        # The exporter reports at length on operators of packages that are not installed.
        logging.getLogger("torch.onnx").setLevel(logging.ERROR)
        checkpoint: Path | None = arguments.checkpoint
        demo_weights = DEMO_WEIGHTS / f"{arguments.name}.safetensors"
        if checkpoint is None and demo_weights.is_file():
            checkpoint = demo_weights
        try:
            folder = export_model(
                arguments.name,
                checkpoint,
                arguments.out,
                arguments.max_batch_size,
                _report,
                arguments.precision,
                arguments.calibration,
            )
        except (ExportError, CheckpointError, ValueError) as error:
            print(f"clipserve export: {error}", file=sys.stderr)
            return 1
        if checkpoint is None:
            print("warning: no checkpoint was given; these weights are untrained and the answers mean nothing")
        for precision, entry in read_artefact(folder).manifest.precisions.items():
            print(f"{folder / entry.file}: {precision}, {(folder / entry.file).stat().st_size / 1e6:.1f} MB")
            print(_figures(entry))
        return 0


class ModelsCommand:
    """Show what the registry knows."""

    help = "list the registered networks, or tell everything about one"

    def add_arguments(self, parser: argparse.ArgumentParser) -> None:
        """Declare the verb's arguments."""
        parser.add_argument("name", metavar="NAME", nargs="?", help="registered model name")
        parser.add_argument(
            "--repository",
            type=Path,
            default=Path("model_repository"),
            metavar="DIR",
            help="folder to look for exported artefacts in (default %(default)s)",
        )

    def run(self, arguments: argparse.Namespace) -> int:
        """Print the table, or one model."""
        from export.catalogue import model_description, model_table

        try:
            if arguments.name is None:
                print(model_table(arguments.repository))
            else:
                print(model_description(arguments.name, arguments.repository))
        except ValueError as error:
            print(f"clipserve models: {error}", file=sys.stderr)
            return 1
        return 0


def _batch_size(text: str) -> int:
    size = int(text)
    if not 1 <= size <= LARGEST_BATCH:
        raise argparse.ArgumentTypeError(f"{size} must lie between 1 and {LARGEST_BATCH}")
    return size


def _precisions(text: str) -> tuple[str, ...]:
    known = get_args(PrecisionName)
    chosen = tuple(text.split(","))
    for name in chosen:
        if name not in known:
            raise argparse.ArgumentTypeError(f"{name!r} is none of {', '.join(known)}")
    return chosen


def _figures(entry: Precision) -> str:
    """Return what verification measured, a line for made-up inputs and one for clips."""
    found = entry.verification
    lines = [
        f"  relative difference from torch {found.relative_error:.1e}, top-1 agreement {found.top1_agreement:.1%} "
        f"at batch {', '.join(map(str, found.batch_sizes))}, by {entry.runtime}"
    ]
    if entry.on_clips is not None:
        clips = entry.on_clips
        accuracy = (
            "" if clips.accuracy is None else f", accuracy {clips.accuracy:.1%} (torch {clips.torch_accuracy:.1%})"
        )
        lines.append(
            f"  on {clips.clips} clips: relative difference {clips.relative_error:.1e}, "
            f"top-1 agreement {clips.top1_agreement:.1%}{accuracy}"
        )
    if entry.calibration_clips:
        left = ", ".join(entry.float32_layers) or "none"
        lines.append(f"  calibrated on {entry.calibration_clips} other clips; layers left in float32: {left}")
    return "\n".join(lines)


def _report(step: str) -> None:
    print(f"- {step}", file=sys.stderr, flush=True)

"""`clipserve export` and `clipserve models`. Importing this module is cheap: torch is imported when a verb runs."""

from __future__ import annotations

import argparse
import logging
import sys
from pathlib import Path

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
            folder = export_model(arguments.name, checkpoint, arguments.out, arguments.max_batch_size, _report)
        except (ExportError, CheckpointError, ValueError) as error:
            print(f"clipserve export: {error}", file=sys.stderr)
            return 1
        if checkpoint is None:
            print("warning: no checkpoint was given; these weights are untrained and the answers mean nothing")
        for precision, entry in read_artefact(folder).manifest.precisions.items():
            figures = entry.verification
            print(
                f"{folder / entry.file}: {precision}, {(folder / entry.file).stat().st_size / 1e6:.1f} MB, "
                f"relative difference from torch {figures.relative_error:.1e}, "
                f"top-1 agreement {figures.top1_agreement:.1%} at batch {', '.join(map(str, figures.batch_sizes))}"
            )
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


def _report(step: str) -> None:
    print(f"- {step}", file=sys.stderr, flush=True)

"""`clipserve export` and `clipserve models`. Importing this module is cheap: torch is imported when a verb runs."""

from __future__ import annotations

import argparse
import logging
import signal
import sys
import traceback
from collections.abc import Callable, Sequence
from importlib import import_module
from pathlib import Path
from threading import Event
from time import perf_counter
from types import FrameType
from typing import get_args

from service.manifest import Artefact, EngineBuilder, PrecisionName, parse_version, read_artefact, unreadable

LARGEST_BATCH = 256


class ExportCommand:
    """Make the artefact folders that the server reads."""

    help = "export networks with their checkpoints into a repository folder"

    def add_arguments(self, parser: argparse.ArgumentParser) -> None:
        """Declare the verb's arguments."""
        parser.add_argument(
            "names",
            metavar="NAME",
            nargs="+",
            help="registered model names, for example uniformer_s_16x4_k400, or patterns ('uniformer_*_k400')",
        )
        parser.add_argument(
            "--checkpoint",
            type=Path,
            metavar="PATH",
            help="official checkpoint or .safetensors; for several models a folder with NAME.safetensors or the "
            "official file of each (demo/weights for the demo's networks); without it the weights are random",
        )
        parser.add_argument(
            "--labels",
            type=Path,
            metavar="FILE",
            help="the class names of a checkpoint with a head of its own, a line each in the order of its outputs; for "
            "one model (default: the classes that the model is registered with)",
        )
        parser.add_argument(
            "--name",
            metavar="MODEL",
            help="what the model goes by in the repository and for callers, for one model; small letters, digits and "
            "_.- (default: the registered name)",
        )
        parser.add_argument(
            "--out",
            type=Path,
            default=Path("model_repository"),
            metavar="DIR",
            help="repository folder to write into (default %(default)s)",
        )
        parser.add_argument(
            "--version",
            type=_version,
            metavar="N",
            help="number of the version, which may not be there yet (default: one more than the newest in --out)",
        )
        parser.add_argument(
            "--max-batch-size",
            type=_batch_size,
            metavar="N",
            help="largest batch to verify, and so the largest that the server will run (default 8; segmentation 2)",
        )
        parser.add_argument(
            "--precision",
            type=_list_of(get_args(PrecisionName)),
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
        parser.add_argument(
            "--runtime",
            type=_list_of(("onnx", *get_args(EngineBuilder))),
            default=("onnx",),
            metavar="LIST",
            help="what the files must be fit for: onnx (always), tensorrt, tensorrt_rtx; the last two build an engine "
            "of each file to find out, and throw it away (tensorrt needs a GPU for that)",
        )
        parser.add_argument(
            "--resume",
            action="store_true",
            help="leave out models whose newest artefact, or that of --version, is whole and was made from the same "
            "files, with the same options, by the same versions of the tools",
        )

    def run(self, arguments: argparse.Namespace) -> int:
        """Export one model after the other and print how each compares with torch; 1 if one could not be exported."""
        from export.errors import ExportError

        # What a container engine sends ends an export as Ctrl-C does.
        _was_interrupted.clear()
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, _interrupt)
        try:
            return _export(arguments)
        except ExportError as error:
            print(f"clipserve export: {error}", file=sys.stderr)
            return 1
        except KeyboardInterrupt:
            print("clipserve export: interrupted; what was not finished is gone, --resume goes on", file=sys.stderr)
            return 128 + signal.SIGINT


class ModelsCommand:
    """Show what the registry knows."""

    help = "list the registered networks, or those that match a pattern, or tell everything about one"

    def add_arguments(self, parser: argparse.ArgumentParser) -> None:
        """Declare the verb's arguments."""
        parser.add_argument(
            "name", metavar="NAME", nargs="?", help="registered model name, or a pattern ('uniformer_s_*')"
        )
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
        from export.names import is_pattern

        repository: Path = arguments.repository
        try:
            if arguments.name is None:
                print(model_table(repository))
            elif is_pattern(arguments.name):
                print(model_table(repository, arguments.name))
            else:
                print(model_description(arguments.name, repository))
            if not repository.exists():
                print(f"clipserve models: there is no folder {repository} to look for artefacts in", file=sys.stderr)
        except ValueError as error:
            print(f"clipserve models: {error}", file=sys.stderr)
            return 1
        except OSError as error:
            print(f"clipserve models: {unreadable(repository, error)}", file=sys.stderr)
            return 1
        return 0


def _batch_size(text: str) -> int:
    if not text.isdecimal() or not 1 <= int(text) <= LARGEST_BATCH:
        raise argparse.ArgumentTypeError(f"{text!r} is no whole number from 1 to {LARGEST_BATCH}")
    return int(text)


def _version(text: str) -> int:
    number = parse_version(text)
    if number is None:
        raise argparse.ArgumentTypeError(f"{text!r} is no whole number from 1 on")
    return number


def _list_of(known: Sequence[str]) -> Callable[[str], tuple[str, ...]]:
    """Return a reader of names separated by commas, each of which must be known; one that is repeated counts once."""

    def read(text: str) -> tuple[str, ...]:
        chosen = tuple(dict.fromkeys(text.split(",")))
        for name in chosen:
            if name not in known:
                raise argparse.ArgumentTypeError(f"{name!r} is none of {', '.join(known)}")
        return chosen

    return read


def _export(arguments: argparse.Namespace) -> int:
    began = perf_counter()
    from export.errors import ExportError
    from export.selection import matching_models
    from export.staging import check_writable
    from export.summary import artefact_rows, table

    # What it needs and is not installed is told of before any work.
    import_module("export.artefact")
    # The exporter reports at length on operators of packages that are not installed.
    logging.getLogger("torch.onnx").setLevel(logging.ERROR)
    names = matching_models(arguments.names)
    if arguments.labels is not None and len(names) > 1:
        raise ExportError(
            f"{arguments.labels} names the classes of one checkpoint (--labels), and {len(names)} models are meant: "
            "export them one at a time"
        )
    if arguments.name is not None and len(names) > 1:
        raise ExportError(
            f"{arguments.name} names one model (--name), and {len(names)} models are meant: export them one at a time"
        )
    check_writable(arguments.out)
    rows: list[tuple[str, ...]] = []
    failures: dict[str, str] = {}
    untrained = []
    for number, name in enumerate(names, 1):
        if len(names) > 1:
            print(f"{name} ({number} of {len(names)})", file=sys.stderr, flush=True)
        try:
            artefact, seconds = _artefact(name, arguments, alone=len(names) == 1)
            rows += artefact_rows(artefact, seconds)
        except Exception as error:
            # Whatever befell one model, the others are exported.
            failures[name] = _failure(error)
        else:
            if artefact.manifest.checkpoint is None:
                untrained.append(name)
    if rows or len(names) > 1:
        print(table(rows, failures, perf_counter() - began))
    if untrained:
        print(f"no checkpoint was given for {', '.join(untrained)}: untrained weights, whose answers mean nothing")
    return 1 if failures else 0


def _artefact(name: str, arguments: argparse.Namespace, alone: bool) -> tuple[Artefact, dict[PrecisionName, float]]:
    """Return the artefact of a model, and the seconds that each precision took; none if it was there already."""
    from export.artefact import export_model, make_request
    from export.resume import finished
    from export.selection import find_checkpoint

    checkpoint = find_checkpoint(name, arguments.checkpoint, alone)
    engines = [builder for builder in arguments.runtime if builder != "onnx"]
    request = make_request(
        name,
        checkpoint,
        max_batch_size=arguments.max_batch_size,
        precisions=arguments.precision,
        calibration=arguments.calibration,
        engines=engines,
        labels=arguments.labels,
        served_as=arguments.name,
    )
    artefact = finished(request, arguments.out, arguments.version) if arguments.resume else None
    if artefact is not None:
        return artefact, {}
    made = export_model(request, arguments.out, _report, arguments.version)
    return read_artefact(made.folder), made.seconds


def _failure(error: Exception) -> str:
    """Print why a model is not exported and return it in one line; what nobody foresaw comes with its traceback."""
    from export.errors import ExportError
    from models import CheckpointError

    reason = str(error)
    if not isinstance(error, (ExportError, CheckpointError, OSError)):
        traceback.print_exception(error)
        reason = f"{type(error).__name__}: {error} (a fault of ours; the traceback is above)"
    print(f"clipserve export: {reason}", file=sys.stderr)
    return reason.partition("\n")[0]


_was_interrupted = Event()


def _interrupt(_number: int, _frame: FrameType | None) -> None:
    """End the export. Where Python ignores exceptions, in a finaliser for one, the next step does."""
    _was_interrupted.set()
    raise KeyboardInterrupt


def _report(step: str) -> None:
    if _was_interrupted.is_set():
        raise KeyboardInterrupt
    print(f"- {step}", file=sys.stderr, flush=True)

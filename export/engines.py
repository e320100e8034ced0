"""Find out whether TensorRT builds an engine of an exported file.

An engine belongs to the machine that serves it and is made there, by the same code: the service's, in another process.
What is built here is thrown away.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

from export.errors import ExportError
from export.graph import input_shape
from export.progress import run_module
from models import model_entry
from models.weights import WholePicture
from service.manifest import EngineBuilder, PrecisionName
from service.manifest.shapes import shapes_of_views


def check_engine(builder: EngineBuilder, name: str, model_file: Path, precision: PrecisionName, largest: int) -> str:
    """Build an engine for batches of 1 and `largest` views, and return the version of the builder.

    Raises:
        ExportError: It cannot be built; with TensorRT's words.
    """
    request = {
        "model_file": str(model_file),
        "precision": precision,
        "profiles": {"batch_sizes": sorted({1, largest}), **view_shapes(name)},
        "is_for_here": False,
    }
    try:
        command = ["service.runtimes.tensorrt.build", builder, str(os.getpid())]
        return run_module(command, content=json.dumps(request), relief="try a smaller --max-batch-size").strip()
    except ExportError as error:
        raise ExportError(f"{builder} makes no engine of {model_file.name}: {error}") from error


def builder_version(builder: EngineBuilder) -> str | None:
    """Return the version of a builder as `check_engine` does, or None if it cannot be imported.

    That of the bindings: the distributions that bring them have several names, and versions of their own.
    """
    command = [sys.executable, "-P", "-c", f"import {builder}; print({builder}.__version__)"]
    # Elsewhere, since libraries for GPUs may crash where there is none.
    run = subprocess.run(command, capture_output=True, text=True, check=False)  # noqa: S603
    return run.stdout.strip() if run.returncode == 0 else None


def view_shapes(name: str) -> dict[str, tuple[int, ...]]:
    """Return the smallest, the usual and the largest shape of a view, as the server would ask for them."""
    preprocessing = model_entry(name).weights.preprocessing
    max_long_side = preprocessing.max_long_side if isinstance(preprocessing, WholePicture) else None
    shapes = shapes_of_views(input_shape(name), max_long_side)
    return dict(zip(("smallest", "usual", "largest"), shapes, strict=True))

"""Engines of this machine: taken from the private folder, or built in another process and put there."""

from __future__ import annotations

import hashlib
import logging
import subprocess
import sys
from dataclasses import asdict, replace
from pathlib import Path
from time import perf_counter

from service.errors import RuntimeLoadError
from service.manifest import sha256_of
from service.runtimes.gpu import Gpu
from service.runtimes.tensorrt.api import BindingsName
from service.runtimes.tensorrt.build import REQUEST
from service.runtimes.tensorrt.building import BuildRequest
from service.runtimes.tensorrt.store import EngineStore, Facts

logger = logging.getLogger(__name__)


# What changes for good: an engine of another version of these is replaced. Those for other GPUs, or for other batches,
# may belong to another server that keeps its engines in the same folder.
_VERSIONS = ("TensorRT", "driver")


def engine_facts(bindings: BindingsName, version: str, request: BuildRequest, gpu: Gpu) -> dict[str, object]:
    """Return everything that an engine depends on."""
    return {
        "model": sha256_of(request.model_file),
        "precision": request.precision,
        "profiles": {key: list(value) for key, value in asdict(request.profiles).items()},
        "workspace_bytes": request.workspace_bytes,
        "bindings": bindings,
        "TensorRT": version,
        "GPU": gpu.name,
        "compute capability": gpu.compute_capability,
        "driver": gpu.driver,
    }


def engine_name(facts: Facts) -> str:
    """Return the name of the engine of one model, way of serving it and GPU; what is left are versions."""
    lasting = [facts[key] for key in facts if key not in _VERSIONS]
    return hashlib.sha256(repr(lasting).encode()).hexdigest()[:32]


def find_engine(bindings: BindingsName, version: str, request: BuildRequest, gpu: Gpu, store: EngineStore) -> bytes:
    """Return the engine for a model on this machine; building one takes minutes.

    Raises:
        RuntimeLoadError: It cannot be built.
    """
    facts = engine_facts(bindings, version, request, gpu)
    name = engine_name(facts)
    with store.building(name) as output:
        plan = store.load(name, facts)
        if plan is not None:
            return plan
        logger.info("building a TensorRT engine of %s, once for this machine", request.model_file)
        began = perf_counter()
        # TensorRT-RTX compiles for the GPU when it runs, and takes no such measurements.
        timing_cache = store.timing_cache if bindings == "tensorrt" else None
        build_elsewhere(bindings, replace(request, timing_cache=timing_cache), output)
        plan = output.read_bytes()
        logger.info("built in %.0f s, %.1f MB", perf_counter() - began, len(plan) / 1e6)
        store.save(name, facts, plan)
        return plan


def build_elsewhere(bindings: BindingsName, request: BuildRequest, output: Path) -> None:
    """Build an engine in another process.

    Raises:
        RuntimeLoadError: It cannot be built; with TensorRT's words.
    """
    # Without -P Python would look for all modules in the present folder first.
    command = [sys.executable, "-P", "-m", "service.runtimes.tensorrt.build", bindings, str(output)]
    run = subprocess.run(command, input=REQUEST.dump_json(request), capture_output=True, check=False)  # noqa: S603
    if run.returncode:
        said = run.stderr.decode(errors="replace").strip()[-2000:]
        raise RuntimeLoadError(f"{bindings} made no engine (status {run.returncode}): {said or 'it said nothing'}")

"""Engines of this machine: taken from the private folder, or built in another process and put there."""

from __future__ import annotations

import hashlib
import logging
import os
import subprocess
import sys
from collections.abc import Callable
from dataclasses import asdict, replace
from pathlib import Path
from time import perf_counter
from typing import TypeVar

from service.errors import RuntimeLoadError
from service.manifest import sha256_of
from service.runtimes.gpu import Gpu
from service.runtimes.tensorrt import building
from service.runtimes.tensorrt.api import BindingsName
from service.runtimes.tensorrt.build import REQUEST
from service.runtimes.tensorrt.building import BuildRequest
from service.runtimes.tensorrt.store import EngineStore, Facts

logger = logging.getLogger(__name__)

EngineT = TypeVar("EngineT")

# What changes for good: an engine of another version of these is replaced. Those for other GPUs, or for other batches,
# may belong to another server that keeps its engines in the same folder.
_VERSIONS = ("TensorRT", "driver", "code")


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
        # It sets flags and options of the builder.
        "code": sha256_of(Path(building.__file__)),
    }


def engine_name(facts: Facts) -> str:
    """Return the name of the engine of one model, way of serving it and GPU; what is left are versions."""
    lasting = [facts[key] for key in facts if key not in _VERSIONS]
    return hashlib.sha256(repr(lasting).encode()).hexdigest()[:32]


def find_engine(
    bindings: BindingsName,
    version: str,
    request: BuildRequest,
    gpu: Gpu,
    store: EngineStore,
    load: Callable[[bytes], EngineT],
) -> EngineT:
    """Return the engine for a model on this machine, loaded; building one takes minutes.

    Args:
        bindings, version: Which TensorRT.
        request: What to build if none is kept that loads.
        gpu: What it is to run on.
        store: Where engines are kept.
        load: Makes an engine of a serialized one; raises RuntimeLoadError if it does not load.

    Raises:
        RuntimeLoadError: It cannot be built, or does not load.
    """
    facts = engine_facts(bindings, version, request, gpu)
    name = engine_name(facts)
    with store.turn(name) as turn:
        plan = store.load(name, facts)
        if plan is not None:
            try:
                return load(plan)
            except RuntimeLoadError as error:
                logger.warning("the TensorRT engine %s is built again: %s", name, error)
        logger.info("building a TensorRT engine of %s, once for this machine", request.model_file)
        began = perf_counter()
        # TensorRT-RTX compiles for the GPU when it runs, and takes no such measurements.
        timing_cache = store.timing_cache if bindings == "tensorrt" else None
        # A builder that outlives this process keeps the turn: no other one builds beside it.
        plan = build_elsewhere(bindings, replace(request, timing_cache=timing_cache), held=(turn,))
        logger.info("built in %.0f s, %.1f MB", perf_counter() - began, len(plan) / 1e6)
        engine = load(plan)
        store.save(name, facts, plan)
        return engine


def build_elsewhere(bindings: BindingsName, request: BuildRequest, held: tuple[int, ...] = ()) -> bytes:
    """Return an engine that another process builds, which holds the descriptors `held` open until it ends.

    Raises:
        RuntimeLoadError: It cannot be built; with TensorRT's words.
    """
    with open(os.memfd_create("engine", os.MFD_CLOEXEC), "rb") as output:
        # Without -P Python would look for all modules in the present folder first.
        command = [sys.executable, "-P", "-m", "service.runtimes.tensorrt.build"]
        run = subprocess.run(  # noqa: S603
            [*command, bindings, str(os.getpid()), str(output.fileno())],
            input=REQUEST.dump_json(request),
            capture_output=True,
            check=False,
            pass_fds=(output.fileno(), *held),
        )
        if run.returncode:
            said = run.stderr.decode(errors="replace").strip()[-2000:]
            raise RuntimeLoadError(f"{bindings} made no engine (status {run.returncode}): {said or 'it said nothing'}")
        output.seek(0)
        return output.read()

"""Which runtime runs a model: the one that was asked for, or the one that is measured to be faster here."""

from __future__ import annotations

import hashlib
import json
import logging
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from statistics import median
from time import perf_counter

import numpy as np
from numpy.typing import NDArray

from service.errors import RuntimeLoadError
from service.file_locks import take_turn
from service.files import replacing
from service.machine import available_cores, cpu_flags, cpu_model
from service.manifest import Artefact, PrecisionName
from service.runtimes.base import Runtime
from service.runtimes.kinds import CPU_KINDS, KINDS, RuntimeKind
from service.runtimes.options import GpuOptions

logger = logging.getLogger(__name__)

AUTO = "auto"
_ROUNDS = 5
_SECONDS = 4.0

Figures = dict[str, float]


class RuntimeChooser:
    """Loads the runtimes of one model; all that one chooser loads are of one kind.

    Args:
        choice: Name of a kind of runtime, or "auto": the faster one of the CPU.
        precision: Which of the model's files to run.
        threads: Threads of one run.
        cache: Folder that keeps what was measured; it is made if missing, and done without if it cannot be written.
    """

    def __init__(self, choice: str, precision: PrecisionName, threads: int, cache: Path) -> None:
        self._choice = choice
        self._precision = precision
        self._threads = threads
        self._cache = cache

    def load(
        self,
        artefact: Artefact,
        batches: list[NDArray[np.uint8]],
        check: Callable[[Runtime], None],
        options: GpuOptions | None = None,
    ) -> Runtime:
        """Return the runtime of a model; "auto" takes the fastest one that can run it and passes the check.

        Args:
            artefact: The model.
            batches: Inputs to measure with.
            check: Raises RuntimeLoadError if what a loaded runtime computes is not the model.
            options: What runtimes of the GPU need.

        Raises:
            RuntimeLoadError: The runtime that was asked for is not installed, cannot run the model, or fails the check.
            ManifestError: The model has no file of that precision.
        """
        file, kinds = artefact.model_file(self._precision), self.kinds()
        if len(kinds) == 1:
            return self.open(kinds[0], file, check, options)
        kind, runtime = self._fastest(artefact, kinds, batches, check)
        logger.info("%s is taken for %s", kind, file)
        # For the other instances too, even if no record could be kept and another measurement would say otherwise.
        self._choice = kind
        return runtime

    def kinds(self) -> list[RuntimeKind]:
        """Return the runtimes that come into question: the one that was asked for, or for "auto" what is installed.

        Raises:
            RuntimeLoadError: Nothing that is installed runs the precision; the message says what to install.
        """
        if self._choice != AUTO:
            return [KINDS[self._choice]]
        able = [kind for kind in CPU_KINDS.values() if self._precision in kind.precisions]
        installed = [kind for kind in able if kind.version is not None]
        if not installed:
            cures = " or ".join(kind.cure for kind in able)
            raise RuntimeLoadError(f"no runtime that is installed runs {self._precision}: {cures}")
        return installed

    def open(
        self, kind: RuntimeKind, file: Path, check: Callable[[Runtime], None], options: GpuOptions | None = None
    ) -> Runtime:
        """Return a runtime of that kind that runs a model file and passes the check.

        Raises:
            RuntimeLoadError: It does not open, cannot run the model, or fails the check.
        """
        try:
            runtime = kind.open(file, self._precision, self._threads, options)
            check(runtime)
        except RuntimeLoadError:
            raise
        except Exception as error:
            # What runtimes raise has no common base below Exception.
            raise RuntimeLoadError(f"runtime {kind.name} cannot run {file}: {type(error).__name__}: {error}") from error
        return runtime

    def _fastest(
        self,
        artefact: Artefact,
        kinds: list[RuntimeKind],
        batches: list[NDArray[np.uint8]],
        check: Callable[[Runtime], None],
    ) -> tuple[str, Runtime]:
        """Return the fastest of the kinds that can run the model and pass the check, and its name."""
        file = artefact.model_file(self._precision)
        facts = self._facts(artefact.manifest.files[file.name], kinds, batches)
        record = self._cache / "runtimes" / f"{_digest(facts)}.json"
        taken = self._by_record(artefact, kinds, check, record)
        if taken is not None:
            return taken
        with _turn(record.parent):
            # The other processes of a server, which come here at the same time, are to take the same runtime.
            taken = self._by_record(artefact, kinds, check, record)
            if taken is not None:
                return taken
            sound = dict(self._sound_ones(kinds, file, check))
            figures = measure(sound, batches)
            _log_figures(artefact, figures, "measured now")
            # What is passed over now may be mended by the next start.
            if len(sound) == len(kinds):
                _write(record, facts, figures)
        fastest = min(figures, key=figures.__getitem__)
        return fastest, sound[fastest]

    def _by_record(
        self, artefact: Artefact, kinds: list[RuntimeKind], check: Callable[[Runtime], None], record: Path
    ) -> tuple[str, Runtime] | None:
        """Return the fastest as it was measured before; None if it was not."""
        figures = _read(record, [kind.name for kind in kinds])
        if figures is None:
            return None
        _log_figures(artefact, figures, f"as measured before ({record})")
        by_speed = [CPU_KINDS[name] for name in sorted(figures, key=figures.__getitem__)]
        return next(self._sound_ones(by_speed, artefact.model_file(self._precision), check))

    def _sound_ones(
        self, kinds: list[RuntimeKind], file: Path, check: Callable[[Runtime], None]
    ) -> Iterator[tuple[str, Runtime]]:
        """Open the kinds one after the other and yield each that passes the check, with its name.

        Raises:
            RuntimeLoadError: None does.
        """
        refusals = []
        for kind in kinds:
            try:
                runtime = self.open(kind, file, check)
            except RuntimeLoadError as error:
                logger.error("%s is passed over: %s", kind.name, error)
                refusals.append(error)
            else:
                yield kind.name, runtime
        if len(refusals) == len(kinds):
            raise refusals[0]

    def _facts(self, model: str, kinds: list[RuntimeKind], batches: list[NDArray[np.uint8]]) -> dict[str, object]:
        """Return everything that a measurement depends on."""
        return {
            "model": model,
            "precision": self._precision,
            "threads": self._threads,
            "batches": [list(batch.shape) for batch in batches],
            "cpu": cpu_model(),
            "instructions": sorted(cpu_flags()),
            "cores": available_cores(),
            "runtimes": {kind.name: kind.version for kind in kinds},
            "code": _code_of_runtimes(),
        }


def _code_of_runtimes() -> str:
    """Return a digest of the code that opens files and runs them: it changes graphs and sets a runtime's options."""
    files = sorted(Path(__file__).parent.rglob("*.py"))
    return hashlib.sha256(b"".join(file.read_bytes() for file in files)).hexdigest()


def measure(runtimes: dict[str, Runtime], batches: list[NDArray[np.uint8]]) -> Figures:
    """Return the seconds that each runtime takes for the logits of a view, as the mean over the batches.

    The runtimes take turns, so that whatever else the machine does meanwhile meets all of them; of several rounds the
    median counts. A large network gets fewer rounds.
    """
    figures = dict.fromkeys(runtimes, 0.0)
    for batch in batches:
        for runtime in runtimes.values():
            runtime.run(batch, "logits")
        rounds: list[Figures] = []
        began = perf_counter()
        while len(rounds) < _ROUNDS and (not rounds or perf_counter() - began < _SECONDS):
            rounds.append({name: _seconds(runtime, batch) for name, runtime in runtimes.items()})
        for name in runtimes:
            figures[name] += median(taken[name] for taken in rounds) / len(batch) / len(batches)
    return figures


def _log_figures(artefact: Artefact, figures: Figures, source: str) -> None:
    shown = ", ".join(f"{name} {1000 * seconds:.2f} ms" for name, seconds in figures.items())
    logger.info("%s: %s a view, %s", artefact.manifest.name, shown, source)


def _seconds(runtime: Runtime, batch: NDArray[np.uint8]) -> float:
    began = perf_counter()
    runtime.run(batch, "logits")
    return perf_counter() - began


def _digest(facts: dict[str, object]) -> str:
    return hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()


@contextmanager
def _turn(folder: Path) -> Iterator[None]:
    """Let no other process measure while the block runs; where the folder cannot be written, all measure at once."""
    with ExitStack() as held:
        try:
            folder.mkdir(parents=True, exist_ok=True)
            file = held.enter_context((folder / "lock").open("ab"))
            take_turn(file.fileno(), f"another process that measures runtimes ({file.name} is locked)")
        except OSError as error:
            logger.info("other processes may measure at the same time: %s cannot be locked (%s)", folder, error)
        yield


def _read(record: Path, names: list[str]) -> Figures | None:
    """Return the figures of a record; None if there is none, or none that can be used."""
    try:
        figures = json.loads(record.read_bytes())["seconds_per_view"]
        return {name: float(figures[name]) for name in names}
    except (OSError, ValueError, LookupError, TypeError):
        return None


def _write(record: Path, facts: dict[str, object], figures: Figures) -> None:
    content = json.dumps({"seconds_per_view": figures, "measured_on": facts}, indent=2) + "\n"
    try:
        record.parent.mkdir(parents=True, exist_ok=True)
        with replacing(record) as file:
            file.write(content.encode())
    except OSError as error:
        logger.info("the measurement will be made again at the next start: %s cannot be written (%s)", record, error)

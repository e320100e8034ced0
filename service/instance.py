"""One instance of a model: a runtime whose runs are watched, and which is taken out while they hang or fail."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from concurrent.futures import Executor
from functools import partial
from time import perf_counter
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from service.errors import InternalError
from service.fairness import FairGate
from service.runtimes.base import OutputName, Runtime

logger = logging.getLogger(__name__)

T = TypeVar("T")

# Failed runs in a row after which an instance is probed, and the time between probes once it has failed one.
FAILED_RUNS = 3
PROBE_SECONDS = 5.0


class Instance:
    """Runs one batch at a time.

    Args:
        name: Of the model.
        runtime: What runs it.
        executor: Threads in which it does.
        timeout: Seconds after which a run is taken for one that may never return.
        probe: Has a runtime run what it is known to run, and raises if it does not; None: nothing is known.

    Attributes:
        problem: Why it takes no batches; empty: it does.
    """

    def __init__(
        self,
        name: str,
        runtime: Runtime,
        executor: Executor,
        timeout: float,
        probe: Callable[[Runtime], None] | None,
    ) -> None:
        self.problem = ""
        self._name = name
        self._runtime = runtime
        self._executor = executor
        self._timeout = timeout
        self._probe = probe
        self._failed_in_a_row = 0

    async def run(
        self,
        frames: NDArray[np.uint8],
        output: OutputName,
        end_turn: Callable[[], None],
        on_problem: Callable[[], None],
    ) -> NDArray[Any]:
        """Return what the network makes of frames (N, ...), see Runtime.run.

        If that takes too long, the instance is taken out, its turn ended, and `on_problem` called.

        Raises:
            InternalError: The runtime answers another number of views.
            Exception: What the runtime raises has no common base below that.
        """
        try:
            results = await self._watched(end_turn, on_problem, partial(self._runtime.run, frames, output))
            if len(results) != len(frames):
                raise InternalError(f"{len(frames)} views went in, {len(results)} results came out")
        except Exception:
            self._failed_in_a_row += 1
            raise
        self._failed_in_a_row = 0
        return results

    async def until_sound(self, gate: FairGate, on_problem: Callable[[], None]) -> None:
        """Wait, if the last runs have failed, until the instance runs at least what it is known to run.

        Meanwhile it is taken out, and `on_problem` called.
        The views that failed may be to blame themselves, and such requests must not make the model refuse others.
        """
        while (probe := self._probe) and self._failed_in_a_row >= FAILED_RUNS:
            try:
                async with gate.turn(self._name) as end_turn:
                    await self._watched(end_turn, on_problem, partial(probe, self._runtime))
            except Exception as error:
                logger.warning("%s: what is known to run fails too: %s", self._name, error)
                self._take_out(f"its runs fail; it is tried again every {PROBE_SECONDS:g} s", on_problem)
                await asyncio.sleep(PROBE_SECONDS)
            else:
                if self.problem:
                    logger.warning("%s: its runs succeed again", self._name)
                self._failed_in_a_row, self.problem = 0, ""

    async def _watched(self, end_turn: Callable[[], None], on_problem: Callable[[], None], run: Callable[[], T]) -> T:
        """Return what a run returns. Nothing can stop it; when it lasts too long, nothing waits for it any more.

        Other models get their turns then, and whoever waits for the last instance is refused at once instead of at
        its deadline, until the run returns after all.
        """
        loop, began, before, overdue = asyncio.get_running_loop(), perf_counter(), self.problem, False

        def give_up() -> None:
            nonlocal overdue
            overdue = True
            end_turn()
            self._take_out(f"a run has not returned within {self._timeout:g} s", on_problem)

        timer = loop.call_later(self._timeout, give_up)
        try:
            return await loop.run_in_executor(self._executor, run)
        finally:
            timer.cancel()
            if overdue:
                self.problem = before
                logger.warning("%s: the run has returned after %.1f s", self._name, perf_counter() - began)

    def _take_out(self, problem: str, on_problem: Callable[[], None]) -> None:
        if problem != self.problem:
            logger.error("%s is not ready: %s", self._name, problem)
        self.problem = problem
        on_problem()

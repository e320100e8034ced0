"""Memory that requests hold, counted over all of them: what would go over the limit is refused."""

from __future__ import annotations

from time import perf_counter

from service.errors import MediaLimitError, QueueFullError
from service.service_time import ServiceTime, retry_after


class MemoryBudget:
    """The bytes of one kind that may be held at the same time, over all requests.

    Args:
        what: Of what kind, for messages.
        max_bytes: The limit.

    Attributes:
        what, max_bytes: As given.
        held: Bytes that are held.
    """

    def __init__(self, what: str, max_bytes: int) -> None:
        self.what = what
        self.max_bytes = max_bytes
        self._time_held = ServiceTime()
        self.held = 0

    def take(self, size: int) -> None:
        """Account for `size` more bytes.

        Raises:
            QueueFullError: They would go over the limit.
        """
        if self.held + size > self.max_bytes:
            raise QueueFullError(
                f"the {self.what} being worked on fill the {self.max_bytes} bytes that they may; try again later",
                retry_after=retry_after(self._seconds_until_free(size)),
            )
        self.held += size

    def give_back(self, size: int, seconds: float) -> None:
        """Account for `size` bytes of one request that are gone after `seconds`."""
        self.held -= size
        self._time_held.observe(1, seconds)

    def _seconds_until_free(self, size: int) -> float:
        """Estimate when `size` bytes find room: everything that is held now is given back in about one holding time."""
        missing = self.held + size - self.max_bytes
        return self._time_held.of(min(1.0, missing / max(1, self.held)))


class Holding:
    """What one request holds of a budget.

    Attributes:
        size: Bytes that it holds.
    """

    def __init__(self, budget: MemoryBudget) -> None:
        self._budget = budget
        self._began = perf_counter()
        self.size = 0

    def take(self, size: int) -> None:
        """Account for `size` more bytes, before they are kept.

        Raises:
            QueueFullError: All requests together would hold too much.
        """
        self._budget.take(size)
        self.size += size

    def give_back(self, size: int) -> None:
        """Account for `size` bytes being gone."""
        self._budget.give_back(size, perf_counter() - self._began)
        self.size -= size


class Lease(Holding):
    """A holding that lasts until nobody uses it any more.

    It begins with one user, the request. A thread that cannot be stopped is one more.
    """

    def __init__(self, budget: MemoryBudget) -> None:
        super().__init__(budget)
        self._users = 1

    def take(self, size: int) -> None:
        """Account for `size` more bytes.

        Raises:
            MediaLimitError: The request would hold too much even if it were the only one.
            QueueFullError: All requests together would hold too much.
        """
        if (needed := self.size + size) > (limit := self._budget.max_bytes):
            raise MediaLimitError(
                f"the {self._budget.what} of this request take {needed} bytes, and those of all requests may take "
                f"{limit}: send smaller ones, or ask for fewer or a smaller short_side"
            )
        super().take(size)

    def keep(self, size: int) -> None:
        """Account for all but `size` bytes being gone."""
        self.give_back(max(0, self.size - size))

    def hold(self) -> None:
        """Account for one more user."""
        self._users += 1

    def drop(self) -> None:
        """Account for a user being gone; with the last, all goes."""
        self._users -= 1
        if not self._users and self.size:
            self.give_back(self.size)

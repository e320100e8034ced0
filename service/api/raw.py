"""A body that is one file."""

from __future__ import annotations

from service.api.memory_files import HeldBytes, append


class RawSink:
    """Writes a body as it comes.

    Attributes:
        advice: What to do if it turns out to be no medium.
    """

    def __init__(self, descriptor: int, held: HeldBytes, advice: str) -> None:
        self.advice = advice
        self._descriptor = descriptor
        self._held = held

    def write(self, chunk: bytes) -> None:
        """Take the next bytes.

        Raises:
            PayloadTooLargeError: They go over the request's own cap.
            QueueFullError: All requests together would hold too much, or the kernel has nothing left.
        """
        self._held.take(len(chunk))
        append(self._descriptor, chunk)

    def finish(self) -> None:
        """Nothing is missing: a body ends where it ends."""

"""The memory files that uploads are received into, and the bytes that requests hold of them."""

from __future__ import annotations

import asyncio
import os

from service.errors import BadParameterError, PayloadTooLargeError
from service.kernel_limits import shedding
from service.media.formats import SNIFF_BYTES, sniff
from service.memory import Holding, MemoryBudget

# Freed in less than two milliseconds.
_CLOSED_AT_ONCE = 8 << 20


class UploadMemory(MemoryBudget):
    """The bytes of uploads that may be held at the same time, over all requests."""

    def __init__(self, max_bytes: int) -> None:
        super().__init__("uploads", max_bytes)


class HeldBytes(Holding):
    """The bytes of uploads that one request holds, with a cap of its own."""

    def __init__(self, max_bytes: int, memory: UploadMemory) -> None:
        super().__init__(memory)
        self._max_bytes = max_bytes

    def take(self, size: int) -> None:
        """Account for `size` more bytes, before they are kept.

        Raises:
            PayloadTooLargeError: They go over the request's own cap.
            QueueFullError: All requests together would hold too much.
        """
        if self.size + size > self._max_bytes:
            raise PayloadTooLargeError(
                f"the upload has more than {self._max_bytes} bytes, which is the limit: send a smaller file"
            )
        super().take(size)


def open_upload() -> int:
    """Return the file descriptor of a new memory file for an upload.

    Raises:
        QueueFullError: The server has no file descriptors left.
    """
    with shedding():
        return os.memfd_create("upload", os.MFD_CLOEXEC)


def close_upload(descriptor: int) -> None:
    """Give the memory file of an upload back: a large one in a thread, which waits while the kernel frees its pages."""
    if os.fstat(descriptor).st_size <= _CLOSED_AT_ONCE:
        os.close(descriptor)
    else:
        asyncio.get_running_loop().run_in_executor(None, os.close, descriptor)


def append(descriptor: int, content: bytes | memoryview) -> None:
    """Add bytes to the memory file of an upload.

    Raises:
        QueueFullError: The server has no memory left.
    """
    with shedding():
        os.write(descriptor, content)


def check_media(descriptor: int, advice: str = "") -> None:
    """Take a first look at an upload, which costs nothing and keeps what cannot be decoded away from the workers.

    Args:
        descriptor: Of its memory file.
        advice: What is added to the refusal of what is not recognised.

    Raises:
        BadParameterError: It is empty.
        UnsupportedMediaError: The first bytes are of no accepted format.
    """
    head = os.pread(descriptor, SNIFF_BYTES, 0)
    if not head:
        raise BadParameterError("the upload is empty: send the bytes of a video or an image")
    sniff(head, advice)

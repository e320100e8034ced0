"""A decode worker: a process of its own that turns one upload at a time into views or pictures.

Started as `python -m service.media.worker FD`, FD being one end of a Unix socket pair. Messages are JSON packets; the
upload arrives, and the pixels leave, as file descriptors of memory files that ride on a packet. The worker holds no
other file and ends when the socket closes.
"""

from __future__ import annotations

import ctypes
import gc
import logging
import mmap
import os
import resource
import signal
import socket
import sys
from contextlib import suppress
from math import prod

import cv2
import numpy as np
from numpy.typing import NDArray

from service.errors import MediaLimitError, ServiceError, UndecodableMediaError
from service.media.decoding import decode_views
from service.media.pictures import decode_pictures
from service.media.types import ANY_REQUEST, AnyResult, DecodeFailure, DecodeRequest

logger = logging.getLogger(__name__)

MAX_MESSAGE_BYTES = 1 << 17
READY = b"{}"
PR_SET_PDEATHSIG = 1  # <sys/prctl.h>


def main() -> None:
    """Serve decode requests on the socket given by file descriptor number until it closes."""
    descriptor, memory_bytes = int(sys.argv[1]), int(sys.argv[2])
    _restrict(memory_bytes)
    # What the imports made stays for good; leaving it out makes a collection after each upload cheap.
    gc.freeze()
    # A server that is gone closes the socket, and then there is nobody left to tell.
    with socket.socket(fileno=descriptor) as connection, suppress(ConnectionError):
        connection.send(READY)
        while True:
            message, descriptors, _, _ = socket.recv_fds(connection, MAX_MESSAGE_BYTES, 1)
            if not message:
                return
            _answer(connection, message, descriptors[0])
            # PyAV's frames and their side data refer to each other: left to chance, collection comes only after
            # hundreds of uploads, whose decoded pictures would fill the address space meanwhile.
            gc.collect()


def _restrict(memory_bytes: int) -> None:
    # A terminal or a supervisor signals the whole process group; the server decides when its workers end, and if it
    # dies without a word, so do they.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
    cv2.setNumThreads(1)
    resource.setrlimit(resource.RLIMIT_AS, (memory_bytes, memory_bytes))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    resource.setrlimit(resource.RLIMIT_NOFILE, (64, 64))


def _answer(connection: socket.socket, message: bytes, upload: int) -> None:
    output, originals = _Output(), _Output()
    result: AnyResult | DecodeFailure
    try:
        with open(upload, "rb") as file:
            request = ANY_REQUEST.validate_json(message)
            if isinstance(request, DecodeRequest):
                result = decode_views(file, request, output.allocate)
            else:
                result = decode_pictures(file, request, output.allocate, originals.allocate)
    except ServiceError as error:
        result = DecodeFailure(code=error.code, detail=error.detail)
    except MemoryError:
        detail = "decoding the upload takes more memory than a decode worker may use: send a smaller one"
        result = DecodeFailure(code=MediaLimitError.code, detail=detail)
    except Exception:
        # A fault of ours or of a library, met on hostile bytes: it costs this upload, not the worker.
        logger.exception("decoding an upload failed in an unforeseen way")
        result = DecodeFailure(code=UndecodableMediaError.code, detail="the upload cannot be decoded: it is damaged")
    sent = [] if isinstance(result, DecodeFailure) else output.descriptors() + originals.descriptors()
    socket.send_fds(connection, [result.model_dump_json().encode()], sent)
    output.close()
    originals.close()


class _Output:
    """A memory file that holds pixels of one answer."""

    def __init__(self) -> None:
        self._descriptor: int | None = None

    def allocate(self, shape: tuple[int, ...]) -> NDArray[np.uint8]:
        self.close()
        self._descriptor = os.memfd_create("views", os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
        os.ftruncate(self._descriptor, prod(shape))
        return np.frombuffer(mmap.mmap(self._descriptor, prod(shape)), np.uint8).reshape(shape)

    def descriptors(self) -> list[int]:
        return [] if self._descriptor is None else [self._descriptor]

    def close(self) -> None:
        if self._descriptor is not None:
            os.close(self._descriptor)
            self._descriptor = None


if __name__ == "__main__":
    main()

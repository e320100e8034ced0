"""A decode worker: a process of its own that turns one upload at a time into views or pictures.

Started as `python -m service.media.worker FD`, FD being one end of a Unix socket pair. Messages are JSON in packets;
the upload, and the memory files to write pixels to, ride on a packet as file descriptors. The worker holds no other
file, may open none (service/media/sandbox.py) and ends when the socket closes.
"""

from __future__ import annotations

import errno
import gc
import mmap
import os
import socket
import sys
import traceback
from contextlib import suppress
from functools import partial
from math import prod

import av.subtitles.codeccontext  # PyAV would import these three when it meets the first subtitles
import av.subtitles.stream
import av.subtitles.subtitle  # noqa: F401
import cv2
import numpy as np
import PIL.ImageFile  # noqa: F401  (Pillow would import it when the first picture that it has resized leaves it)
from numpy.typing import NDArray

from service.errors import MediaLimitError, ServiceError, UndecodableMediaError
from service.media import sandbox
from service.media.decoding import decode_views
from service.media.pictures import decode_pictures
from service.media.types import (
    ANY_REQUEST,
    MAX_ARRAYS,
    MAX_PACKET_BYTES,
    TAKEN_POSITION,
    AnyResult,
    DecodeFailure,
    DecodeRequest,
    WorkerReady,
)
from service.parent import end_with_parent

# How far decoding stands back where it shares cores with the server, whose event loop every connection waits for.
NICENESS = 5
MAX_TRACE_CHARACTERS = 4000


def main() -> None:
    """Serve decode requests on the socket given by file descriptor number until it closes."""
    descriptor, memory_bytes = int(sys.argv[1]), int(sys.argv[2])
    _prepare()
    # What the imports made stays for good; leaving it out makes a collection after each upload cheap.
    gc.freeze()
    # A server that is gone closes the socket, and then there is nobody left to tell.
    with socket.socket(fileno=descriptor) as connection, suppress(ConnectionError):
        connection.sendmsg([_confine(memory_bytes).model_dump_json().encode()])
        while True:
            message, descriptors, _, _ = socket.recv_fds(connection, MAX_PACKET_BYTES, 1 + MAX_ARRAYS)
            if not message:
                return
            os.lseek(descriptors[1], TAKEN_POSITION, os.SEEK_SET)
            _answer(connection, message, *descriptors)
            # PyAV's frames and their side data refer to each other: left to chance, collection comes only after
            # hundreds of uploads, whose decoded pictures would fill the address space meanwhile.
            gc.collect()


def _prepare() -> None:
    """Do what cannot be done in the sandbox."""
    # A server that dies without a word takes its workers with it; one that is gone already has closed the socket.
    end_with_parent(os.getppid())
    cv2.setNumThreads(1)
    os.nice(NICENESS)


def _confine(memory_bytes: int) -> WorkerReady:
    """Enter the sandbox, as much of it as there can be here."""
    sandbox.limit_resources(memory_bytes)
    sandbox.drop_standard_streams()
    sandbox.refuse_new_privileges()
    try:
        sandbox.filter_system_calls()
    except sandbox.SandboxError as error:
        return WorkerReady(unfiltered=str(error))
    return WorkerReady(unfiltered=None)


def _answer(connection: socket.socket, message: bytes, upload: int, *arrays: int) -> None:
    allocate = [partial(_mapped, descriptor) for descriptor in arrays]
    result: AnyResult | DecodeFailure
    try:
        with open(upload, "rb") as file:
            request = ANY_REQUEST.validate_json(message)
            if isinstance(request, DecodeRequest):
                result = decode_views(file, request, allocate[0])
            else:
                result = decode_pictures(file, request, allocate[0], allocate[-1])
    except ServiceError as error:
        result = DecodeFailure(code=error.code, detail=error.detail)
    except Exception as error:
        result = _failure(error)
    finally:
        for descriptor in arrays:
            os.close(descriptor)
    _send(connection, result.model_dump_json().encode())


def _failure(error: Exception) -> DecodeFailure:
    """Return what to say of an exception that no rule about media raised; it costs this upload, not the worker."""
    if _is_lack_of_memory(error):
        detail = "decoding the upload takes more memory than a decode worker may use: send a smaller one"
        return DecodeFailure(code=MediaLimitError.code, detail=detail)
    # A fault of ours or of a library, met on hostile bytes.
    trace = "".join(traceback.format_exception(error))[-MAX_TRACE_CHARACTERS:]
    return DecodeFailure(
        code=UndecodableMediaError.code, detail="the upload cannot be decoded: it is damaged", trace=trace
    )


def _is_lack_of_memory(error: Exception) -> bool:
    """Tell whether there was no address space left; mmap and OpenCV have their own words for it."""
    if isinstance(error, cv2.error):
        return error.code == cv2.Error.StsNoMem
    return isinstance(error, MemoryError) or (isinstance(error, OSError) and error.errno == errno.ENOMEM)


def _send(connection: socket.socket, answer: bytes) -> None:
    """Send an answer in as many packets as it takes; the last one is the one that is not full."""
    if len(answer) % MAX_PACKET_BYTES == 0:
        answer += b" "
    for begin in range(0, len(answer), MAX_PACKET_BYTES):
        connection.sendmsg([answer[begin : begin + MAX_PACKET_BYTES]])


def _mapped(descriptor: int, shape: tuple[int, ...]) -> NDArray[np.uint8]:
    """Return the first bytes of a memory file as an array to write to."""
    return np.frombuffer(mmap.mmap(descriptor, prod(shape)), np.uint8).reshape(shape)


if __name__ == "__main__":
    main()

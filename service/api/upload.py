"""Receive an upload into a memory file: a raw body, or the `file` part of a multipart form, with a hard cap."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from time import perf_counter

import python_multipart
from fastapi import Request
from python_multipart.exceptions import FormParserError
from python_multipart.multipart import parse_options_header

from service.context import stage
from service.errors import (
    BadParameterError,
    PayloadTooLargeError,
    UnsupportedMediaError,
    UploadStalledError,
)
from service.media.formats import SNIFF_BYTES, sniff
from service.memory import Holding, MemoryBudget
from service.shedding import shedding

FILE_FIELD = b"file"
# Bytes that the boundaries and headers of a form, and what is around them, may add to the file.
FORM_ALLOWANCE = 65536
# Freed in less than two milliseconds.
_CLOSED_AT_ONCE = 8 << 20
# Bytes of a body that are taken before others get their turn, and seconds: a form made to be slow to parse costs a
# quarter of a microsecond a byte, where others cost nothing to speak of.
_TAKEN_AT_ONCE, _TURN_SECONDS = 16_384, 0.002
# No file has a longer name (PATH_MAX of <linux/limits.h>).
_LONGEST_NAME_BYTES = 4096
# What most likely went wrong where a body of that Content-Type is no medium.
_ADVICE = {
    "application/x-www-form-urlencoded": "; the body came as `curl -d` sends it, which leaves out a file's line ends "
    "and zeros, and sends its name if the @ is missing: use `--data-binary @FILE` or `-F file=@FILE`",
    "application/json": "; the body came as JSON: send the file's bytes as they are (`--data-binary @FILE` or "
    "`-F file=@FILE`), or JSON to /v2/models/NAME/infer",
}
_NAME_ADVICE = (
    "; the form's part `file` is short and has no file name: did you forget the @? Use `-F file=@FILE`, or "
    "`--data-binary @FILE` without a form"
)


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


@asynccontextmanager
async def receive_upload(
    request: Request, max_bytes: int, idle_timeout: float, memory: UploadMemory
) -> AsyncIterator[int]:
    """Receive the body of `request` and yield the file descriptor of a memory file that holds the upload.

    Raises:
        UploadStalledError: No byte has come for `idle_timeout` seconds.
        PayloadTooLargeError: More than `max_bytes`; noticed from the header or on the way, never after the fact.
        QueueFullError: All uploads together would go over what `memory` allows, or the kernel has nothing left.
        UnsupportedMediaError: The first bytes are of no accepted format, or the body is compressed.
        BadParameterError: No bytes, a broken form, or a form of anything but one file.
        ClientDisconnect: The client has gone before all of it came.
    """
    check_body_headers(request, max_bytes)
    descriptor = open_upload()
    held = HeldBytes(max_bytes, memory)
    try:
        with stage("receive"):
            sink = _sink(request, _RawSink(descriptor, held, _advice(request)), held)
            async for chunk in body_chunks(request, idle_timeout):
                await _take(sink, chunk)
            sink.finish()
            check_media(descriptor, sink.advice)
        yield descriptor
    finally:
        close_upload(descriptor)
        held.give_back(held.size)


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


async def body_chunks(request: Request, idle_timeout: float) -> AsyncIterator[bytes]:
    """Yield every chunk of the body of `request`, as it comes.

    Raises:
        UploadStalledError: No byte has come for `idle_timeout` seconds.
        ClientDisconnect: The client has gone.
    """
    received, chunks = 0, request.stream()
    try:
        while True:
            # Only the client's time counts, not that of whoever takes the chunks.
            async with asyncio.timeout(idle_timeout):
                chunk = await anext(chunks, None)
            if chunk is None:
                return
            received += len(chunk)
            yield chunk
    except TimeoutError as error:
        raise UploadStalledError(
            f"after {received} bytes of the body nothing came for {idle_timeout:g} s, which is the limit: "
            "send the upload without a pause"
        ) from error


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


def check_body_headers(request: Request, max_bytes: int) -> None:
    """Look at what the headers of `request` say about its body.

    Raises:
        UnsupportedMediaError: It is compressed.
        PayloadTooLargeError: Longer than `max_bytes`.
    """
    encoding = ", ".join(request.headers.getlist("content-encoding"))
    if encoding.lower() not in ("", "identity"):
        raise UnsupportedMediaError(
            f"the body is compressed (Content-Encoding: {encoding:.40}): send it as it is, media are compressed already"
        )
    declared = request.headers.get("content-length", "0")
    # A form's own boundaries and headers come on top; the parts are capped as they arrive.
    if declared.isdecimal() and int(declared) > max_bytes + _form_allowance(request):
        raise PayloadTooLargeError(f"the body has {declared} bytes; the limit is {max_bytes}: send a smaller file")


def _form_allowance(request: Request) -> int:
    return FORM_ALLOWANCE if _is_form(request) else 0


def _is_form(request: Request) -> bool:
    return request.headers.get("content-type", "").lower().startswith("multipart/form-data")


def _advice(request: Request) -> str:
    """Return what to do if the body of `request` turns out to be no medium, by its Content-Type."""
    kind, _, _ = request.headers.get("content-type", "").lower().partition(";")
    return _ADVICE.get(kind.strip(), "")


def _sink(request: Request, raw: _RawSink, held: HeldBytes) -> _RawSink | _FormSink:
    if not _is_form(request):
        return raw
    _, parameters = parse_options_header(request.headers["content-type"])
    boundary = parameters.get(b"boundary")
    if not boundary:
        raise BadParameterError("the multipart form names no boundary in its Content-Type")
    try:
        return _FormSink(boundary, raw, held)
    except FormParserError as error:
        raise BadParameterError(f"the multipart form is broken: {error}") from error


async def _take(sink: _RawSink | _FormSink, chunk: bytes) -> None:
    """Give a sink the next bytes, and others their turn if it takes long over them."""
    began = perf_counter()
    for begin in range(0, len(chunk), _TAKEN_AT_ONCE):
        sink.write(chunk[begin : begin + _TAKEN_AT_ONCE])
        if perf_counter() - began > _TURN_SECONDS:
            await asyncio.sleep(0)
            began = perf_counter()


class _RawSink:
    """Writes a body as it comes.

    Attributes:
        advice: What to do if it turns out to be no medium.
    """

    def __init__(self, descriptor: int, held: HeldBytes, advice: str) -> None:
        self.advice = advice
        self._descriptor = descriptor
        self._held = held

    def write(self, chunk: bytes) -> None:
        self._held.take(len(chunk))
        append(self._descriptor, chunk)

    def finish(self) -> None:
        pass


class _FormSink:
    """Parses a multipart form as it comes and writes its one part, `file`.

    What else may be in a form is little: parsing countless bytes beside the file would keep the event loop busy.
    """

    def __init__(self, boundary: bytes, target: _RawSink, held: HeldBytes) -> None:
        self._target = target
        self._held = held
        self._size = 0
        self._header_name = b""
        self._header_value = b""
        self._part_name: bytes | None = None
        self._has_file_name = False
        self._files = 0
        self._begun = self._ended = False
        self._parser = python_multipart.MultipartParser(
            boundary,
            {
                "on_part_begin": self._begin_part,
                "on_header_field": self._header_field,
                "on_header_value": self._header_value_part,
                "on_header_end": self._header_end,
                "on_headers_finished": self._check_part,
                "on_part_data": self._part_data,
                "on_end": self._end,
            },
        )

    @property
    def advice(self) -> str:
        """What to do if the file turns out to be no medium: curl sends its name alone if the @ is missing."""
        return "" if self._has_file_name or self._held.size > _LONGEST_NAME_BYTES else _NAME_ADVICE

    def write(self, chunk: bytes) -> None:
        self._size += len(chunk)
        try:
            self._parser.write(chunk)
        except FormParserError as error:
            # A text before the first boundary, which RFC 2046 allows and nobody sends, the parser does not take.
            first = (
                "" if self._begun else "; it must begin with the boundary of its Content-Type, and nothing before it"
            )
            raise BadParameterError(f"the multipart form is broken: {error}{first}") from error
        if self._size - self._held.size > FORM_ALLOWANCE:
            raise PayloadTooLargeError(
                f"the form has more than {FORM_ALLOWANCE} bytes beside its `file`, which is the limit: "
                "send the file alone"
            )

    def finish(self) -> None:
        if not self._ended:
            raise BadParameterError("the multipart form ends without its last boundary")
        if not self._files:
            raise BadParameterError("the form has no part `file`: send exactly one")

    def _begin_part(self) -> None:
        self._begun = True
        self._part_name = None

    def _header_field(self, data: bytes, start: int, end: int) -> None:
        self._header_name += data[start:end]

    def _header_value_part(self, data: bytes, start: int, end: int) -> None:
        self._header_value += data[start:end]

    def _header_end(self) -> None:
        if self._header_name.lower() == b"content-disposition":
            _, parameters = parse_options_header(self._header_value)
            self._part_name = parameters.get(b"name")
            self._has_file_name = b"filename" in parameters
        self._header_name = self._header_value = b""

    def _check_part(self) -> None:
        if self._part_name != FILE_FIELD:
            name = "without a name" if self._part_name is None else f"{self._part_name.decode(errors='replace')!r:.80}"
            raise BadParameterError(
                f"the form has a part {name}, and takes `file` alone: options go into the query (?top_k=1)"
            )
        self._files += 1
        if self._files > 1:
            raise BadParameterError("the form has more than one part `file`: send exactly one")

    def _part_data(self, data: bytes, start: int, end: int) -> None:
        self._target.write(data[start:end])

    def _end(self) -> None:
        self._ended = True

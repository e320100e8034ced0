"""Receive an upload into a memory file: a raw body, or the `file` part of a multipart form, with a hard cap."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from time import perf_counter

from fastapi import Request
from python_multipart.exceptions import FormParserError
from python_multipart.multipart import parse_options_header

from service.api.body import body_chunks, check_body_headers, is_form
from service.api.form import FormSink
from service.api.memory_files import HeldBytes, UploadMemory, check_media, close_upload, open_upload
from service.api.raw import RawSink
from service.context import stage
from service.errors import BadParameterError

# Bytes of a form that are parsed before others get their turn, and seconds: one made to be slow costs a quarter of a
# microsecond a byte, where others cost nothing to speak of.
_PARSED_AT_ONCE, _TURN_SECONDS = 16_384, 0.002
# What most likely went wrong where a body of that Content-Type is no medium.
_ADVICE = {
    # curl says so with `--data-binary` too, which leaves the file as it is.
    "application/x-www-form-urlencoded": "; if `curl -d` sent it, which leaves out a file's line ends and zeros, and "
    "sends its name if the @ is missing: use `--data-binary @FILE` or `-F file=@FILE`",
    "application/json": "; the body came as JSON: send the file's bytes as they are (`--data-binary @FILE` or "
    "`-F file=@FILE`), or JSON to /v2/models/NAME/infer",
}


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
            sink = _sink(request, RawSink(descriptor, held, _advice(request)), held)
            async for chunk in body_chunks(request, idle_timeout):
                await _take(sink, chunk)
            sink.finish()
            check_media(descriptor, sink.advice)
        yield descriptor
    finally:
        close_upload(descriptor)
        held.give_back(held.size)


def _advice(request: Request) -> str:
    """Return what to do if the body of `request` turns out to be no medium, by its Content-Type."""
    kind, _, _ = request.headers.get("content-type", "").lower().partition(";")
    return _ADVICE.get(kind.strip(), "")


def _sink(request: Request, raw: RawSink, held: HeldBytes) -> RawSink | FormSink:
    if not is_form(request):
        return raw
    _, parameters = parse_options_header(request.headers["content-type"])
    boundary = parameters.get(b"boundary")
    if not boundary:
        raise BadParameterError("the multipart form names no boundary in its Content-Type")
    try:
        return FormSink(boundary, raw, held)
    except FormParserError as error:
        raise BadParameterError(f"the multipart form is broken: {error}") from error


async def _take(sink: RawSink | FormSink, chunk: bytes) -> None:
    """Give a sink the next bytes, and others their turn if it takes long to parse them."""
    if isinstance(sink, RawSink):
        sink.write(chunk)
        return
    began = perf_counter()
    for begin in range(0, len(chunk), _PARSED_AT_ONCE):
        sink.write(chunk[begin : begin + _PARSED_AT_ONCE])
        if perf_counter() - began > _TURN_SECONDS:
            await asyncio.sleep(0)
            began = perf_counter()

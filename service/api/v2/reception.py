"""Receive an inference request: the JSON first, then the binary data, straight to where it is needed."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
from fastapi import Request
from numpy.typing import NDArray

from service.api.body import body_chunks, check_body_headers
from service.api.memory_files import HeldBytes
from service.api.state import ServerState
from service.api.v2.call import Call, call_of, raw_call
from service.api.v2.interface import CLIP, ModelInterface
from service.api.v2.numbers import values_from_json
from service.api.v2.schema import parse_request
from service.api.v2.sinks import (
    Clips,
    ElementsSink,
    FramesSink,
    NoSink,
    Sink,
    WholeBody,
    files_from_json,
    write_files,
)
from service.api.v2.tensors import HEADER_LENGTH
from service.context import stage
from service.errors import BadParameterError, PayloadTooLargeError
from service.offloading import off_loop

_MAX_DIGITS = 19


@dataclass(frozen=True)
class Received:
    """A whole request: what it asks, and its input.

    Attributes:
        clips: File descriptors of the encoded files, for `clip`.
        frames: uint8 of the call's shape, for `frames`.
    """

    call: Call
    clips: list[int]
    frames: NDArray[np.uint8] | None


@asynccontextmanager
async def receive_call(request: Request, interface: ModelInterface[Any], state: ServerState) -> AsyncIterator[Received]:
    """Receive the body of `request` and yield what it asks; the files close with the block.

    Raises:
        BadParameterError: Anything about the request that the protocol or the model does not allow.
        PayloadTooLargeError: The body, or its JSON, is over the limit.
        QueueFullError: All uploads together would go over what the server holds.
        UnsupportedMediaError: A file is of no accepted format, or the body is compressed.
    """
    settings = state.settings
    check_body_headers(request, settings.max_body_bytes)
    json_length = _json_length(request, settings.max_json_bytes)
    held = HeldBytes(settings.max_body_bytes, state.upload_memory)
    clips = Clips()
    try:
        body = Body(interface, clips, json_length, settings.max_json_bytes, state.json_turn)
        with stage("receive"):
            async for chunk in body_chunks(request, settings.upload_idle_timeout):
                held.take(len(chunk))
                await body.write(chunk)
            received = await body.finish()
        yield received
    finally:
        clips.close()
        held.give_back(held.size)


def _json_length(request: Request, max_json_bytes: int) -> int | None:
    """Return the bytes of JSON before the binary data; None: the whole body is JSON."""
    text = request.headers.get(HEADER_LENGTH)
    if text is None:
        return None
    if not (text.isascii() and text.isdecimal() and len(text) <= _MAX_DIGITS):
        raise BadParameterError(f"{HEADER_LENGTH}: {text!r:.40} is not a number of bytes")
    declared = request.headers.get("content-length", text)
    if declared.isdecimal() and int(text) > int(declared):
        raise BadParameterError(f"{HEADER_LENGTH}: {text} bytes of JSON in a body of {declared}")
    if int(text) > max_json_bytes:
        raise _too_large(max_json_bytes)
    return int(text)


def _too_large(max_json_bytes: int) -> PayloadTooLargeError:
    return PayloadTooLargeError(
        f"the request has more than {max_json_bytes} bytes of JSON, which is the limit: send the tensor as binary data"
    )


@dataclass(frozen=True)
class _Understood:
    """What the JSON of a request says.

    Attributes:
        files: Encoded files that were in it.
        frames: uint8 of the call's shape, if they were in it.
    """

    call: Call
    files: Sequence[bytes] = ()
    frames: NDArray[np.uint8] | None = None


def _understand(content: bytearray, interface: ModelInterface[Any]) -> _Understood:
    request = parse_request(content)
    call = call_of(request, interface)
    data = request.inputs[0].data
    if call.binary_size is not None:
        return _Understood(call)
    if call.input == CLIP:
        return _Understood(call, files=files_from_json(data, call.shape[0]))
    return _Understood(call, frames=values_from_json(data, call.shape, f"input `{call.input}`"))


class Body:
    """Takes a body apart as it comes.

    Args:
        interface: What the model allows; everything is checked before the data that it is about is kept.
        clips: Gets the encoded files.
        json_length: Bytes of JSON before the binary data; 0: the body is one encoded file; None: it is all JSON.
        max_json_bytes: Cap on the JSON where its length is not known before.
        json_turn: Held while JSON is read: some steps of that keep the interpreter to themselves, and those of several
            threads would make the event loop wait for all.
    """

    def __init__(
        self,
        interface: ModelInterface[Any],
        clips: Clips,
        json_length: int | None,
        max_json_bytes: int,
        json_turn: asyncio.Lock,
    ) -> None:
        self._interface = interface
        self._clips = clips
        self._json_length = json_length
        self._max_json_bytes = max_json_bytes
        self._json_turn = json_turn
        self._json = bytearray()
        self._call: Call | None = None
        self._sink: Sink = NoSink()
        self._frames: NDArray[np.uint8] | None = None
        if json_length == 0:
            self._call = raw_call(interface)
            self._sink = WholeBody(clips)

    async def write(self, chunk: bytes) -> None:
        """Take the next bytes of the body."""
        if self._call is not None:
            self._sink.write(chunk)
            return
        end = len(chunk) if self._json_length is None else self._json_length - len(self._json)
        self._json += chunk[:end]
        if len(self._json) > self._max_json_bytes:
            raise _too_large(self._max_json_bytes)
        if len(self._json) == self._json_length:
            await self._understand()
            self._sink.write(memoryview(chunk)[end:])

    async def _understand(self) -> Call:
        content, self._json = self._json, bytearray()
        async with self._json_turn:
            understood = await off_loop(len(content), _understand, content, self._interface)
        call = self._call = understood.call
        if call.binary_size is None:
            # Not in the thread, which goes on when the request is given up and its files are closed.
            write_files(self._clips, understood.files)
            self._frames = understood.frames
        elif call.input == CLIP:
            self._sink = ElementsSink(self._clips, call.shape[0], call.binary_size)
        else:
            frames = self._sink = FramesSink(call.shape)
            self._frames = frames.frames
        return call

    async def finish(self) -> Received:
        """Return the request, now that all of it came."""
        if self._call is None and self._json_length is not None:
            raise BadParameterError(f"the body ended after {len(self._json)} of {self._json_length} bytes of JSON")
        call = self._call or await self._understand()
        self._sink.finish()
        return Received(call, self._clips.descriptors, self._frames)

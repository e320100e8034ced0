"""The body of a request: what its headers say of it, and its bytes as they come."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

from fastapi import Request

from service.errors import PayloadTooLargeError, UnsupportedMediaError, UploadStalledError

# Bytes that the boundaries and headers of a form, and what is around them, may add to the file.
FORM_ALLOWANCE = 65536


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
    return FORM_ALLOWANCE if is_form(request) else 0


def is_form(request: Request) -> bool:
    """Tell whether the body is a multipart form."""
    return request.headers.get("content-type", "").lower().startswith("multipart/form-data")


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

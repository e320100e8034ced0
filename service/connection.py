"""One client connection: uvicorn's HTTP/1.1 protocol with limits on the head of a request.

uvicorn waits for ever for the end of a request's head, and for the rest of a body that nobody reads any more. Clients
that never finish would use up the server's file descriptors.
"""

from __future__ import annotations

import asyncio
import sys
from typing import ClassVar

import h11
from uvicorn.protocols.http.h11_impl import H11Protocol

from service.api.problems import MEDIA_TYPE, problem_body
from service.errors import BadRequestError, HeaderTooLargeError, ServiceError


class Connection(H11Protocol):
    """A connection that is closed when no whole request head comes in time.

    Attributes:
        head_timeout: Seconds from the opening of the connection, or from the first byte after an answer, until the
            next head must be complete.
    """

    head_timeout: ClassVar[float]
    _timer: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        self._watch()

    def data_received(self, data: bytes) -> None:
        super().data_received(data)
        self._watch()

    def connection_lost(self, exc: Exception | None) -> None:
        self._unwatch()
        super().connection_lost(exc)

    def _watch(self) -> None:
        answering = self.cycle is not None and not self.cycle.response_complete
        if answering or self.transport.is_closing():
            self._unwatch()
        elif self._timer is None:
            self._timer = self.loop.call_later(self.head_timeout, self.transport.close)

    def _unwatch(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def send_400_response(self, msg: str) -> None:
        """Refuse what is no HTTP, or a head over the limit; called while h11's exception is being handled."""
        cause = sys.exception()
        error: ServiceError
        if isinstance(cause, h11.RemoteProtocolError) and cause.error_status_hint == HeaderTooLargeError.status:
            error = HeaderTooLargeError(
                f"the request line and headers have more than {self.config.h11_max_incomplete_event_size} bytes, "
                "which is the limit: send fewer or shorter ones"
            )
        else:
            error = BadRequestError(f"{msg} {cause}")
        if self.conn.our_state in (h11.IDLE, h11.SEND_RESPONSE):
            body = problem_body(error.code, error.title, error.status, error.detail).model_dump_json().encode()
            headers = [("Content-Type", MEDIA_TYPE), ("Content-Length", str(len(body))), ("Connection", "close")]
            response = h11.Response(status_code=error.status, headers=headers, reason=error.title.encode())
            for event in (response, h11.Data(data=body), h11.EndOfMessage()):
                self.transport.write(self.conn.send(event) or b"")
        self.transport.close()

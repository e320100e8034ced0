"""One client connection: uvicorn's HTTP/1.1 protocol with limits on slow clients and heads, and without any upgrade.

uvicorn waits for ever for the end of a request's head, however long, for the rest of a body that nobody reads any more,
and for a client to take its answer. Clients that never finish would use up the server's memory and file descriptors.
And uvicorn takes the body of a request that offers an upgrade for the next request, and does not notice that a client
has left that sent a request before it had its last answer (pipelining).
"""

from __future__ import annotations

import asyncio
import logging
import select
import struct
import termios
from fcntl import ioctl
from typing import ClassVar, cast

import httptools
from starlette.datastructures import Headers
from uvicorn._types import ASGI3Application, ASGIReceiveCallable, ASGISendCallable, ASGISendEvent, Scope
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol, RequestResponseCycle

from service.api.access import REQUEST_ID, context_of
from service.api.problems import error_answer
from service.api.route_names import NO_ROUTE
from service.context import request_id, working_on
from service.errors import BadRequestError, HeaderTooLargeError, ServiceError
from service.metrics import Metrics

logger = logging.getLogger(__name__)

# What a field of the head has beside its name and value: a colon, a space and the end of the line.
FIELD_FRAME_BYTES = 4
# What a chunk of a body has beside its content: its length, in 16 digits at most, and the ends of two lines.
CHUNK_FRAME_BYTES = 20
# What a client must take of its answer in each period: some bytes now and then would let it hold the rest for hours.
ANSWER_PERIOD_BYTES = 65536
# How often it is looked whether a client is still there of whom nothing is read at the moment.
PRESENCE_SECONDS = 1.0
# Why an answer was not delivered, among the reasons of refusals.
ANSWER_STALLED = "answer_stalled"


class Connection(HttpToolsProtocol):
    """A connection that is closed when a head does not come in time or is too large, or an answer is taken too slowly.

    Attributes:
        metrics: Where refusals are counted.
        head_timeout: Seconds from the opening of the connection, or from the first byte after an answer, until the
            next head must be complete.
        max_head_bytes: Of the request line and the headers together; those that may follow a body in chunks count too.
        answer_idle_timeout: Seconds in which the client must take ANSWER_PERIOD_BYTES of what waits to be sent, or all.
    """

    metrics: ClassVar[Metrics]
    head_timeout: ClassVar[float]
    max_head_bytes: ClassVar[int]
    answer_idle_timeout: ClassVar[float]
    # Of the request that comes, as far as it has come; before any the base class has none.
    url = b""
    # The request whose turn it is; `cycle` is the last that has come.
    _present: RequestResponseCycle | None = None
    _timer: asyncio.TimerHandle | None = None
    _reader_timer: asyncio.TimerHandle | None = None
    _presence_timer: asyncio.TimerHandle | None = None
    _refused = False
    _head_bytes = 0
    # Bytes that the parser has been given and made nothing of yet: more than a few are a line without an end.
    _unparsed_bytes = 0

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        # Writing is paused whenever something waits for the client, however little.
        transport.set_write_buffer_limits(high=0)
        self._watch()

    def data_received(self, data: bytes) -> None:
        if self._refused:
            return
        self._unset_keepalive_if_required()
        self._unparsed_bytes += len(data)
        try:
            self._parse(data)
            if self._unparsed_bytes > self.max_head_bytes:
                raise self._too_large()
        except httptools.HttpParserError as error:
            # What one of our callbacks raised, the parser hides behind an exception of its own.
            cause = error.__context__
            self._refuse(cause if isinstance(cause, ServiceError) else BadRequestError(f"invalid request: {error}"))
        except HeaderTooLargeError as error:
            self._refuse(error)
        self._watch()
        self._watch_presence()

    def connection_lost(self, exc: Exception | None) -> None:
        self._unwatch()
        self._unwatch_reader()
        self._unwatch_presence()
        if self._present is not None and not self._present.response_complete:
            self._present.disconnected = True
            self._present.message_event.set()
        super().connection_lost(exc)

    def pause_writing(self) -> None:
        super().pause_writing()
        self._watch_reader()

    def resume_writing(self) -> None:
        self._unwatch_reader()
        super().resume_writing()

    def _parse(self, data: bytes) -> None:
        rest = memoryview(data)
        while True:
            try:
                self.parser.feed_data(rest)
                return
            except httptools.HttpParserUpgrade as pause:
                # What follows the head the parser takes for another protocol, and no body.
                rest = rest[pause.args[0] :]
            # Not while that exception is handled: it would hide what one of our callbacks raises.
            self._parse_without_upgrade()

    def _parse_without_upgrade(self) -> None:
        """Parse the present head once more, without the upgrade that it offers and the server does not take.

        The request then is one like any other (RFC 9110, 7.8).
        """
        line = b"%b %b HTTP/%b" % (self.parser.get_method(), self.url, self.parser.get_http_version().encode())
        fields = [b"%b: %b" % field for field in self.headers if field[0] != b"upgrade"]
        head = b"\r\n".join([line, *fields, b"", b""])
        # The old one may want nothing more, if the connection is to be closed after this request.
        self.parser = _new_parser(self)
        self._unparsed_bytes += len(head)
        self.parser.feed_data(head)

    def on_message_begin(self) -> None:
        self._head_bytes = 0
        self._unset_keepalive_if_required()
        super().on_message_begin()

    def on_url(self, url: bytes) -> None:
        super().on_url(url)
        self._count_head(len(url))

    def on_header(self, name: bytes, value: bytes) -> None:
        self._count_head(len(name) + len(value) + FIELD_FRAME_BYTES)
        super().on_header(name, value)

    def on_headers_complete(self) -> None:
        if self.parser.get_method() == b"CONNECT":
            raise BadRequestError("CONNECT asks a proxy for a tunnel, and this server is none: send the request itself")
        if self.parser.should_upgrade():
            return
        self._check_target()
        self._check_one_reading()
        if self.parser.get_http_version() == "1.0":
            # Such a client takes an interim answer for the answer (RFC 9110, 15.2).
            self.expect_100_continue = False
        super().on_headers_complete()

    def _start_asgi_task(self, cycle: RequestResponseCycle, app: ASGI3Application) -> None:
        self._present = cycle
        # It looks for the transport again when its answer is complete and the connection is not kept.
        cycle.transport = cast(asyncio.Transport, _Courteous(self, cycle))
        super()._start_asgi_task(cycle, _expected(app, cycle) if cycle.waiting_for_100_continue else app)

    def on_body(self, body: bytes) -> None:
        self._unparsed_bytes = max(0, self._unparsed_bytes - len(body) - CHUNK_FRAME_BYTES)
        super().on_body(body)

    def on_message_complete(self) -> None:
        if self.parser.should_upgrade():
            return
        self._unparsed_bytes = 0
        super().on_message_complete()
        if self.cycle.response_complete:
            # The answer came before the end of the request, and the connection is idle from now on.
            self.timeout_keep_alive_task = self.loop.call_later(
                self.timeout_keep_alive, self.timeout_keep_alive_handler
            )

    def end(self, cycle: RequestResponseCycle) -> None:
        """Close the connection once the answer to that request has been sent.

        What still comes, of a body that nobody wants or of other requests, is read and dropped for a while: to close at
        once would reset the connection, and the answer be lost (RFC 9112, 9.6).
        """
        if self.transport.is_closing():
            return
        if cycle is self.cycle and not cycle.more_body:
            self.transport.close()
            return
        self._refused = True
        # Nothing more comes of it, even if the answer broke off.
        cycle.disconnected = True
        self.cycle = cycle
        self.pipeline.clear()
        self.transport.write_eof()
        self.flow.resume_reading()
        self._watch()

    def on_response_complete(self) -> None:
        super().on_response_complete()
        if self._refused:
            # The time of what is dropped has begun; there is no other request to wait for.
            self._unset_keepalive_if_required()

    def _check_target(self) -> None:
        """Refuse what the base class would fail at."""
        try:
            path = httptools.parse_url(self.url).path
        except httptools.HttpParserInvalidURLError:
            path = None
        if path is None:
            raise BadRequestError(
                f"{self.url.decode('latin-1')!r:.200} names no path on this server: send one like /docs"
            )

    def _check_one_reading(self) -> None:
        """Refuse a head that a proxy in front may read otherwise (RFC 9112, 3.2, 6.1 and 11.2).

        That proxy would take for another client's request what is a body here. The parser itself refuses two lengths.
        """
        version = self.parser.get_http_version()
        if version not in ("1.0", "1.1"):
            raise BadRequestError(f"HTTP/{version} is not spoken here in this form: send HTTP/1.1")
        since_1_1 = version == "1.1"
        hosts = sum(name == b"host" for name, _ in self.headers)
        if hosts > 1 or (since_1_1 and not hosts):
            raise BadRequestError(f"the request has {hosts} headers `Host`: send one")
        for name, value in self.headers:
            if name == b"transfer-encoding" and (not since_1_1 or value.lower() != b"chunked"):
                raise BadRequestError(
                    "Transfer-Encoding may only be `chunked`, and not in HTTP/1.0: send Content-Length in its place"
                )

    def _count_head(self, size: int) -> None:
        self._unparsed_bytes -= size
        self._head_bytes += size
        if self._head_bytes > self.max_head_bytes:
            raise self._too_large()

    def _too_large(self) -> HeaderTooLargeError:
        return HeaderTooLargeError(
            f"the request line and headers have more than {self.max_head_bytes} bytes, which is the limit: "
            "send fewer or shorter ones"
        )

    def _watch(self) -> None:
        present = self._present
        answering = present is not None and not present.response_complete and not present.disconnected
        idle = self.timeout_keep_alive_task is not None
        if answering or idle or self.transport.is_closing():
            self._unwatch()
        elif self._timer is None:
            self._timer = self.loop.call_later(self.head_timeout, self.transport.close)

    def _unwatch(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _watch_reader(self) -> None:
        # The timer runs in the context of the request whose answer waits, so that its line in the log names it.
        self._reader_timer = self.loop.call_later(self.answer_idle_timeout, self._check_reader, self._waiting_bytes())

    def _unwatch_reader(self) -> None:
        if self._reader_timer is not None:
            self._reader_timer.cancel()
            self._reader_timer = None

    def _watch_presence(self) -> None:
        if self.flow.read_paused and self._presence_timer is None and not self.transport.is_closing():
            self._presence_timer = self.loop.call_later(PRESENCE_SECONDS, self._check_presence)

    def _unwatch_presence(self) -> None:
        if self._presence_timer is not None:
            self._presence_timer.cancel()
            self._presence_timer = None

    def _check_presence(self) -> None:
        """Give the connection up if the client has left; its end comes behind what is not read now."""
        self._presence_timer = None
        poll = select.poll()
        poll.register(self.transport.get_extra_info("socket"), select.POLLRDHUP)
        if self.flow.read_paused and poll.poll(0):
            self.transport.abort()
        self._watch_presence()

    def _waiting_bytes(self) -> int:
        """Return how many bytes the client has not acknowledged.

        What the kernel holds of them is counted as well: it takes more from us only when much of that has gone, which
        may be a long time with a slow line.
        """
        in_kernel = ioctl(self.transport.get_extra_info("socket").fileno(), termios.TIOCOUTQ, bytes(4))
        return self.transport.get_write_buffer_size() + int(struct.unpack("i", in_kernel)[0])

    def _check_reader(self, waiting_before: int) -> None:
        """Give the connection up if the client has taken too little since `waiting_before` bytes waited for it."""
        taken = waiting_before - self._waiting_bytes()
        if taken >= min(ANSWER_PERIOD_BYTES, waiting_before):
            self._watch_reader()
            return
        logger.warning(
            "of the last %d bytes the client took %d in %g s, and the least is %d",
            waiting_before,
            taken,
            self.answer_idle_timeout,
            ANSWER_PERIOD_BYTES,
        )
        self.metrics.rejected.labels(ANSWER_STALLED).inc()
        self.transport.abort()

    def _refuse(self, error: ServiceError) -> None:
        """Take nothing more from the client, and answer with the error unless other answers are on their way."""
        self._refused = True
        self._unset_keepalive_if_required()
        with working_on(context_of(Headers(raw=self.headers or []))):
            fields = {"status": error.status, "code": error.code}
            logger.warning("refused with %d %s: %s", error.status, error.code, error.detail, extra={"fields": fields})
            self.metrics.rejected.labels(error.code).inc()
            if self._break_off():
                self._answer(error)

    def _break_off(self) -> bool:
        """Let no more come of the present request; return whether it is this one's turn to be answered."""
        cycle, present = self.cycle, self._present
        if present is None or cycle.response_complete:
            return True
        if cycle.more_body and cycle is present:
            # Whoever works on it finds its client gone.
            cycle.disconnected = True
            cycle.message_event.set()
            if cycle.response_started:
                self.transport.close()
            return not cycle.response_started
        if cycle.more_body:
            # Nobody works on it yet: the last is the one before.
            self.pipeline.popleft()
            self.cycle = self.pipeline[0][0] if self.pipeline else present
        # That one is whole. Once it is answered the connection closes, which says that no other was.
        self.cycle.keep_alive = False
        return False

    def _answer(self, error: ServiceError) -> None:
        path = self.url.partition(b"?")[0].decode("latin-1")
        headers = {REQUEST_ID: request_id(), "Connection": "close"}
        answer = error_answer(path, error.code, error.title, error.status, error.detail, headers)
        self.metrics.requests.labels(NO_ROUTE, str(error.status)).inc()
        fields = [*self.server_state.default_headers, *answer.raw_headers]
        lines = [b"HTTP/1.1 %d %b" % (error.status, error.title.encode()), *(b"%b: %b" % field for field in fields)]
        # HEAD is told of the body's length alone (RFC 9110, 9.3.2).
        body = b"" if self.parser.get_method() == b"HEAD" else bytes(answer.body)
        self.transport.write(b"\r\n".join([*lines, b"", body]))
        self.transport.write_eof()
        self.flow.resume_reading()


class _Courteous:
    """The transport of a connection for one request, after which it ends in its own way when it is closed."""

    def __init__(self, connection: Connection, cycle: RequestResponseCycle) -> None:
        self._connection = connection
        self._cycle = cycle
        self.write = connection.transport.write
        self.is_closing = connection.transport.is_closing

    def close(self) -> None:
        self._connection.end(self._cycle)


def _expected(app: ASGI3Application, cycle: RequestResponseCycle) -> ASGI3Application:
    """Return the application for a request whose client waits to be asked for the body.

    An answer without that question ends the connection: the client may send the body all the same or not, and what
    comes next would be taken for it (RFC 9110, 10.1.1).
    """

    async def run(scope: Scope, receive: ASGIReceiveCallable, send: ASGISendCallable) -> None:
        async def answer(message: ASGISendEvent) -> None:
            if cycle.waiting_for_100_continue and cycle.more_body:
                cycle.keep_alive = False
            await send(message)

        await app(scope, receive, answer)

    return run


def _new_parser(connection: Connection) -> httptools.HttpRequestParser:
    """Return a parser like the one that uvicorn gives a connection."""
    parser = httptools.HttpRequestParser(connection)
    # What follows the last request of a connection is dropped; the request itself must not fail for it.
    parser.set_dangerous_leniencies(lenient_data_after_close=True)
    return parser

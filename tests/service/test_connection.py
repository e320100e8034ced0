"""Clients that send too slowly, too much of a head, or no HTTP at all, against a real server."""

import json
import re
import resource
import socket
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path

import httpx
import pytest

from tests.server import RunningServer, serving

CLIP = (Path(__file__).parents[2] / "demo/media/sample.mp4").read_bytes()


@pytest.fixture(scope="module")
def strict(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningServer]:
    """A server with little patience."""
    with serving(
        tmp_path_factory.mktemp("strict"),
        head_timeout=1,
        upload_idle_timeout=1,
        answer_idle_timeout=1,
        keep_alive_timeout=2,
    ) as server:
        yield server
        # Whatever a test did, the server still works.
        assert httpx.post(f"{server.url}/v1/classify", content=CLIP, timeout=60).status_code == 200


@contextmanager
def connected(server: RunningServer) -> Iterator[socket.socket]:
    host, port = server.url.removeprefix("http://").split(":")
    with socket.create_connection((host, int(port)), timeout=20) as connection:
        yield connection


def rest(connection: socket.socket) -> bytes:
    """Return what comes until the server closes the connection."""
    received = b""
    try:
        while part := connection.recv(65536):
            received += part
    except ConnectionResetError:
        pass
    return received


def answer_on(connection: socket.socket) -> bytes:
    """Return the next answer with a length on a connection that is kept."""
    received = b""
    while not (head := re.match(rb".*?content-length: (\d+)\r\n.*?\r\n\r\n", received, re.DOTALL)):
        part = connection.recv(1)
        assert part, received
        received += part
    return received + connection.recv(int(head[1]), socket.MSG_WAITALL)


def test_upload_that_stalls_is_given_up(strict: RunningServer) -> None:
    with connected(strict) as connection:
        head = f"POST /v1/classify HTTP/1.1\r\nHost: x\r\nContent-Length: {len(CLIP)}\r\n\r\n"
        connection.sendall(head.encode() + CLIP[:77])
        answer = rest(connection)
    assert answer.startswith(b"HTTP/1.1 408")
    assert b"application/problem+json" in answer
    assert b"after 77 bytes of the body nothing came for 1 s" in answer


def test_upload_that_never_pauses_for_long_is_taken(strict: RunningServer) -> None:
    def slowly() -> Iterator[bytes]:
        for part in range(6):
            yield CLIP[len(CLIP) * part // 6 : len(CLIP) * (part + 1) // 6]
            time.sleep(0.3)

    assert httpx.post(f"{strict.url}/v1/classify", content=slowly(), timeout=60).status_code == 200


@pytest.mark.parametrize("sent", [b"", b"G", b"GET /healthz HTTP/1.1\r\nHost: x\r\nX-Endless: "])
def test_connection_without_a_whole_head_is_closed(strict: RunningServer, sent: bytes) -> None:
    with connected(strict) as connection:
        connection.sendall(sent)
        assert rest(connection) == b""


def trickle(connection: socket.socket, content: bytes) -> None:
    """Send a byte at a time, never pausing for long."""
    for byte in content:
        connection.sendall(bytes([byte]))
        time.sleep(0.05)


def test_trickled_head_does_not_buy_time(strict: RunningServer) -> None:
    with connected(strict) as connection, pytest.raises(ConnectionError):
        trickle(connection, b"GET /healthz HTTP/1.1\r\nX-Slow: " + b"x" * 1000)


def test_body_that_goes_on_after_its_refusal_is_cut_off(strict: RunningServer) -> None:
    with connected(strict) as connection:
        connection.sendall(b"POST /v1/models/nothing/classify HTTP/1.1\r\nHost: x\r\nContent-Length: 100000\r\n\r\n")
        assert connection.recv(65536).startswith(b"HTTP/1.1 404")
        with pytest.raises(ConnectionError):
            trickle(connection, b"x" * 1000)


def test_connection_is_kept_for_as_long_when_a_refusal_came_before_the_whole_body(tmp_path: Path) -> None:
    with serving(tmp_path, head_timeout=1, keep_alive_timeout=6) as server, connected(server) as connection:
        for _ in range(2):
            connection.sendall(b"POST /v1/models/nothing/classify HTTP/1.1\r\nHost: x\r\nContent-Length: 20000\r\n\r\n")
            assert answer_on(connection).startswith(b"HTTP/1.1 404")
            connection.sendall(bytes(100))
            time.sleep(0.2)
            connection.sendall(bytes(19_900))
            time.sleep(2)
        began = time.monotonic()
        assert rest(connection) == b""
        assert 2 < time.monotonic() - began < 6


def test_each_request_on_a_connection_has_its_own_time(strict: RunningServer) -> None:
    with httpx.Client() as client:
        for _ in range(3):
            answer = client.get(f"{strict.url}/healthz")
            assert answer.status_code == 200
            time.sleep(0.6)


def test_large_head_is_refused_with_the_limit(strict: RunningServer) -> None:
    answer = httpx.get(f"{strict.url}/healthz", headers={"X-Large": "x" * 1_000_000})
    assert answer.status_code == 431
    assert answer.headers["content-type"] == "application/problem+json"
    problem = answer.json()
    assert problem["code"] == "header_too_large"
    assert "more than 16384 bytes" in problem["detail"]


def test_what_is_no_http_is_refused(strict: RunningServer) -> None:
    with connected(strict) as connection:
        connection.sendall(b"\x16\x03\x01 this is TLS, or anything else\r\n\r\n")
        answer = rest(connection)
    assert answer.startswith(b"HTTP/1.1 400")
    assert b'"code":"bad_request"' in answer


def test_broken_chunk_in_a_body_is_refused(strict: RunningServer) -> None:
    with connected(strict) as connection:
        connection.sendall(b"POST /v1/classify HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n")
        connection.sendall(b"nonsense\r\n")
        assert rest(connection).startswith(b"HTTP/1.1 400")


@pytest.mark.parametrize(
    "hosts",
    [(), ("Host: x", "Host: y")],
    ids=["none", "two"],
)
def test_request_that_does_not_name_one_host_is_refused(strict: RunningServer, hosts: tuple[str, ...]) -> None:
    with connected(strict) as connection:
        connection.sendall("\r\n".join(("GET /healthz HTTP/1.1", *hosts, "", "")).encode())
        answer = rest(connection)
    assert answer.startswith(b"HTTP/1.1 400")
    assert f"the request has {len(hosts)} headers `Host`: send one".encode() in answer


def test_request_of_http_1_0_needs_no_host(strict: RunningServer) -> None:
    with connected(strict) as connection:
        connection.sendall(b"GET /healthz HTTP/1.0\r\n\r\n")
        assert rest(connection).startswith(b"HTTP/1.1 200")


@pytest.mark.parametrize(
    "line",
    [b"GET /" + b"x" * 40_000, b"GET / HTTP/1.1\r\nX-Endless: " + b"x" * 40_000],
    ids=["request line", "header"],
)
def test_line_of_a_head_that_does_not_end_is_refused(strict: RunningServer, line: bytes) -> None:
    with connected(strict) as connection:
        connection.sendall(line)
        assert rest(connection).startswith(b"HTTP/1.1 431")


def test_headers_after_a_body_count_as_well(strict: RunningServer) -> None:
    with connected(strict) as connection:
        connection.sendall(
            b"POST /v1/classify HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n1\r\nx\r\n0\r\n"
        )
        connection.sendall(b"X-Endless: " + b"x" * 40_000)
        assert rest(connection).startswith(b"HTTP/1.1 431")


@pytest.mark.parametrize(
    "lengths",
    [
        ("Content-Length: 4", "Transfer-Encoding: chunked"),
        ("transfer-encoding: chunked", "content-length: 4"),
        ("Content-Length: 4", "Content-Length: 5"),
        ("Content-Length: 4, 5",),
        ("Transfer-Encoding: chunked", "Transfer-Encoding: chunked"),
        ("Transfer-Encoding: gzip, chunked",),
        ("Content-Length: +4",),
        ("Content-Length : 4",),
    ],
)
def test_body_whose_length_two_readers_could_take_for_different_is_refused(
    strict: RunningServer, lengths: tuple[str, ...]
) -> None:
    assert_refused(strict, "\r\n".join(("POST /v2/repository/index HTTP/1.1", "Host: x", *lengths)))


def test_http_1_0_has_no_chunks(strict: RunningServer) -> None:
    assert_refused(strict, "POST /v2/repository/index HTTP/1.0\r\nTransfer-Encoding: chunked")


def assert_refused(strict: RunningServer, head: str) -> None:
    with connected(strict) as connection:
        # What one reader takes for the body of the first request is a second one to the other.
        connection.sendall(f"{head}\r\n\r\n0\r\n\r\nGET /healthz HTTP/1.1\r\nHost: x\r\n\r\n".encode())
        answer = rest(connection)
    assert answer.startswith((b"HTTP/1.1 400", b"HTTP/1.1 501"))
    assert answer.count(b"HTTP/1.1") == 1
    assert b"connection: close" in answer.lower()


LONG_ANSWER = b"GET /openapi.json HTTP/1.1\r\nHost: x\r\nX-Request-Id: lazy\r\n\r\n"
# So many of them that no kernel keeps all the answers.
LONG_ANSWERS = 300


def test_answer_that_nobody_takes_is_given_up(strict: RunningServer) -> None:
    answer = httpx.get(f"{strict.url}/openapi.json").content
    with connected(strict) as connection:
        connection.sendall(LONG_ANSWER * LONG_ANSWERS)
        metric = 'clipserve_requests_rejected_total{reason="answer_stalled"} 1.0'
        strict.wait_for(lambda: metric in strict.metrics())
        # What the kernels had kept still comes, and then the end.
        assert 0 < len(rest(connection)) < len(answer) * LONG_ANSWERS
    assert re.search(
        r"lazy service\.connection: of the last \d+ bytes the client took \d+ in 1 s, and the least is 65536",
        strict.log.read_text(),
    )


def stalled_answers(server: RunningServer) -> float:
    found = re.search(r'rejected_total\{reason="answer_stalled"\} (\S+)', server.metrics())
    return float(found[1]) if found else 0.0


def test_some_bytes_now_and_then_are_not_enough(strict: RunningServer) -> None:
    before = stalled_answers(strict)
    host, port = strict.url.removeprefix("http://").split(":")
    with socket.socket() as connection:
        # The client's kernel must not take much more than the client.
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        connection.settimeout(20)
        connection.connect((host, int(port)))
        connection.sendall(LONG_ANSWER * LONG_ANSWERS)
        patience = time.monotonic() + 15
        while stalled_answers(strict) == before:
            assert time.monotonic() < patience
            assert connection.recv(2048)
            time.sleep(0.1)


def test_client_that_takes_its_answers_slowly_gets_them_all(strict: RunningServer) -> None:
    answer = httpx.get(f"{strict.url}/openapi.json").content
    pause = 3 / (len(answer) * LONG_ANSWERS / 1_000_000)
    received = b""
    with connected(strict) as connection:
        connection.sendall(
            LONG_ANSWER * (LONG_ANSWERS - 1) + LONG_ANSWER.replace(b"\r\n\r\n", b"\r\nConnection: close\r\n\r\n")
        )
        while part := connection.recv(1_000_000, socket.MSG_WAITALL):
            received += part
            time.sleep(pause)
    assert received.count(answer) == LONG_ANSWERS


UPGRADES = {
    # As curl --http2 and Java's HttpClient offer it, and as a browser opens a WebSocket.
    "h2c": b"Connection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AAMAAABkAAQCAAAAAAIAAAAA\r\n",
    "websocket": b"upgrade: websocket\r\nX-Empty:\r\nconnection: keep-alive, upgrade\r\n",
}
HEALTH = b"GET /healthz HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"


def offering(upgrade: str, body: bytes, more: bytes = b"") -> bytes:
    head = b"POST /v1/classify HTTP/1.1\r\nHost: x\r\n" + UPGRADES[upgrade] + more
    return head + b"Content-Length: %d\r\n\r\n" % len(body) + body


@pytest.mark.parametrize("upgrade", UPGRADES)
def test_request_that_offers_an_upgrade_is_answered_as_any_other(server: RunningServer, upgrade: str) -> None:
    with connected(server) as connection:
        connection.sendall(offering(upgrade, CLIP) + offering(upgrade, CLIP, b"X-Request-Id: second\r\n") + HEALTH)
        answer = rest(connection)
    assert answer.count(b"HTTP/1.1 200") == answer.count(b"HTTP/1.1") == 3
    assert answer.count(b'"rotating clockwise"') == 2
    assert b"x-request-id: second\r\n" in answer
    log = server.log.read_text().lower()
    assert "websocket" not in log
    assert "upgrade" not in log


def test_last_request_of_a_connection_may_offer_an_upgrade(server: RunningServer) -> None:
    head = b"POST /v1/classify HTTP/1.1\r\nHost: x\r\nConnection: close, Upgrade\r\nUpgrade: h2c\r\n"
    with connected(server) as connection:
        connection.sendall(head + b"Transfer-Encoding: chunked\r\n\r\n%x\r\n%b\r\n0\r\n\r\n" % (len(CLIP), CLIP))
        assert rest(connection).startswith(b"HTTP/1.1 200")


def test_head_with_an_upgrade_may_come_in_any_pieces(server: RunningServer) -> None:
    body = b"no clip"
    request = offering("h2c", body)
    with connected(server) as connection:
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        for cut in range(1, len(request)):
            connection.sendall(request[:cut])
            time.sleep(0.002)
            connection.sendall(request[cut:])
            answer = b""
            while not answer.endswith(b"}"):
                answer += connection.recv(65536)
            assert answer.startswith(b"HTTP/1.1 415"), cut


def test_body_behind_an_upgrade_is_no_request(server: RunningServer) -> None:
    smuggled = b"GET /v1/models/smuggled HTTP/1.1\r\nHost: x\r\n\r\n"
    request = offering("h2c", smuggled)
    with connected(server) as connection:
        connection.sendall(request.removesuffix(smuggled))
        time.sleep(0.2)
        connection.sendall(smuggled + HEALTH)
        answer = rest(connection)
    assert answer.startswith(b"HTTP/1.1 415")
    assert answer.count(b"HTTP/1.1") == 2
    assert b"unknown_model" not in answer


def test_heads_with_an_upgrade_are_checked_like_others(strict: RunningServer) -> None:
    with connected(strict) as connection:
        connection.sendall(b"GET /healthz HTTP/1.1\r\nConnection: Upgrade\r\nUpgrade: h2c\r\n\r\n")
        _, problem = problem_of(rest(connection))
    assert problem["detail"] == "the request has 0 headers `Host`: send one"


def problem_of(answer: bytes) -> tuple[dict[str, str], dict[str, str]]:
    """Return the headers and the JSON of the only answer."""
    assert answer.count(b"HTTP/1.1 ") == 1
    head, _, body = answer.partition(b"\r\n\r\n")
    headers = dict(line.split(": ", 1) for line in head.decode().lower().split("\r\n")[1:])
    assert int(headers["content-length"]) == len(body)
    problem: dict[str, str] = json.loads(body)
    return headers, problem


def counted(server: RunningServer, series: str) -> float:
    found = re.search(rf"^{re.escape(series)} (\S+)$", server.metrics(), re.MULTILINE)
    return float(found[1]) if found else 0.0


@pytest.mark.parametrize(
    ("sent", "status", "code"),
    [
        (b"hello\r\n\r\n", 400, "bad_request"),
        (b"GET /healthz HTTP/1.1\r\n\r\n", 400, "bad_request"),
        (b"GET /healthz HTTP/1.1\r\nHost: x\r\nX-Large: " + b"x" * 20_000 + b"\r\n\r\n", 431, "header_too_large"),
        (b"GET /" + b"x" * 20_000, 431, "header_too_large"),
        (b"CONNECT a.example:443 HTTP/1.1\r\nHost: x\r\n\r\n", 400, "bad_request"),
    ],
    ids=["junk", "no host", "large header", "large target", "tunnel"],
)
def test_early_refusal_has_an_id_is_counted_and_logged(
    strict: RunningServer, sent: bytes, status: int, code: str
) -> None:
    series = (
        f'clipserve_requests_rejected_total{{reason="{code}"}}',
        f'clipserve_requests_total{{route="unknown",status="{status}"}}',
    )
    before = [counted(strict, name) for name in series]
    with connected(strict) as connection:
        connection.sendall(sent)
        headers, problem = problem_of(rest(connection))
    assert (problem["status"], problem["code"]) == (status, code)
    assert headers["x-request-id"] == problem["request_id"]
    assert [counted(strict, name) for name in series] == [count + 1 for count in before]
    assert f"{headers['x-request-id']} service.connection: refused with {status} {code}: " in strict.log.read_text()


def undated(head: bytes) -> bytes:
    """Return the head of an answer without its time."""
    return re.sub(rb"(?i)(\r\ndate: )[^\r]*", rb"\1", head)


@pytest.mark.parametrize(
    ("fields", "status"), [(b"", b"400"), (b"Host: x\r\nX-Large: " + b"x" * 20_000, b"431")], ids=["no host", "large"]
)
def test_early_refusal_of_head_has_no_body(strict: RunningServer, fields: bytes, status: bytes) -> None:
    answers = []
    for method in (b"GET", b"HEAD"):
        with connected(strict) as connection:
            connection.sendall(method + b" /healthz HTTP/1.1\r\nX-Request-Id: mine-2\r\n" + fields + b"\r\n\r\n")
            answers.append(rest(connection))
    with_body, without = (answer.partition(b"\r\n\r\n") for answer in answers)
    assert with_body[0].startswith(b"HTTP/1.1 " + status)
    assert with_body[2]
    assert not without[2]
    # RFC 9110, 9.3.2: the fields are those that GET would have got.
    assert undated(without[0]) == undated(with_body[0])


def test_early_refusal_repeats_the_id_that_came(strict: RunningServer) -> None:
    with connected(strict) as connection:
        connection.sendall(b"GET /healthz HTTP/1.1\r\nX-Request-Id: mine-1\r\nHost: x\r\nHost: y\r\n\r\n")
        headers, problem = problem_of(rest(connection))
    assert headers["x-request-id"] == problem["request_id"] == "mine-1"


@pytest.mark.parametrize("target", [b"/v2/models?x", b"/v2", b"/v2/" + b"x" * 20_000])
def test_early_refusal_below_v2_has_that_protocol_s_form(strict: RunningServer, target: bytes) -> None:
    with connected(strict) as connection:
        connection.sendall(b"GET " + target + b" HTTP/1.1\r\nX-Large: " + b"x" * 20_000 + b"\r\n\r\n")
        headers, answer = problem_of(rest(connection))
    assert headers["content-type"] == "application/json"
    assert list(answer) == ["error"]
    assert "16384" in answer["error"]


def test_other_version_of_http_is_refused(strict: RunningServer) -> None:
    with connected(strict) as connection:
        connection.sendall(b"GET /healthz HTTP/2.0\r\nHost: x\r\n\r\n")
        _, problem = problem_of(rest(connection))
    assert (problem["status"], problem["code"]) == (400, "bad_request")
    assert "send HTTP/1.1" in problem["detail"]


@pytest.mark.parametrize("target", [b"http://example.com", b"http://[::1"])
def test_target_without_a_path_is_refused(strict: RunningServer, target: bytes) -> None:
    with connected(strict) as connection:
        connection.sendall(b"GET " + target + b" HTTP/1.1\r\nHost: x\r\n\r\n")
        _, problem = problem_of(rest(connection))
    assert problem["detail"].startswith(f"{target.decode()!r} names no path")


@pytest.mark.parametrize(
    "broken",
    [b"hello\r\n\r\n", b"POST /v1/classify HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\nnonsense\r\n"],
    ids=["junk", "broken body"],
)
def test_whole_request_is_answered_before_a_broken_one_closes_the_connection(
    strict: RunningServer, broken: bytes
) -> None:
    with connected(strict) as connection:
        connection.sendall(b"GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n" + broken)
        answer = rest(connection)
    assert answer.startswith(b"HTTP/1.1 200")
    assert answer.count(b"HTTP/1.1 ") == 1
    assert "Traceback" not in strict.log.read_text()


@pytest.mark.parametrize("target", [b"example.com:443", b"/v1/classify"])
def test_tunnel_is_refused(strict: RunningServer, target: bytes) -> None:
    with connected(strict) as connection:
        connection.sendall(b"CONNECT " + target + b" HTTP/1.1\r\nHost: x\r\n\r\n" + HEALTH)
        answer = rest(connection)
    assert answer.startswith(b"HTTP/1.1 400")
    assert b"CONNECT asks a proxy for a tunnel" in answer
    assert answer.count(b"HTTP/1.1") == 1


def test_more_idle_connections_than_the_usual_limit_on_files_keep_nobody_out(tmp_path: Path) -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    with ExitStack() as open_things:
        resource.setrlimit(resource.RLIMIT_NOFILE, (300, hard))
        try:
            server = open_things.enter_context(serving(tmp_path, head_timeout=60))
        finally:
            resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
        for _ in range(400):
            open_things.enter_context(connected(server))
        assert httpx.post(f"{server.url}/v1/classify", content=CLIP, timeout=20).status_code == 200


@pytest.mark.parametrize(
    "path", ["/v1/classify?top_k=0", "/v1/models/nobody/classify", "/nowhere", "/v2/models/nobody/infer"]
)
def test_refusal_reaches_a_client_that_wants_the_connection_closed(strict: RunningServer, path: str) -> None:
    # This client always wants that, and looks for the answer when it has sent everything.
    with pytest.raises(urllib.error.HTTPError) as refused:
        urllib.request.urlopen(f"{strict.url}{path}", data=bytes(20_000_000), timeout=20)
    assert refused.value.code in (400, 404)
    assert refused.value.read()


def test_body_that_nobody_wants_is_not_waited_for_without_end(strict: RunningServer) -> None:
    with connected(strict) as connection:
        head = b"POST /nowhere HTTP/1.1\r\nHost: x\r\nConnection: close\r\nContent-Length: 1000\r\n\r\n"
        connection.sendall(head + bytes(10))
        began = time.monotonic()
        assert rest(connection).startswith(b"HTTP/1.1 404")
        # All of the answer has come; the server goes on for a second.
        with suppress(BrokenPipeError, ConnectionResetError):
            while time.monotonic() < began + 15:
                connection.sendall(b"x")
                time.sleep(0.1)
        assert 0.5 < time.monotonic() - began < 10

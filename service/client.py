"""Ask a running server, with the standard library alone: what the verbs for clients have in common."""

from __future__ import annotations

import argparse
import json
import os
import sys
from dataclasses import dataclass
from http import HTTPStatus
from http.client import HTTPConnection, HTTPException, HTTPSConnection
from stat import S_ISREG
from typing import Any, BinaryIO
from urllib.parse import quote, urlencode, urlsplit

KEY_VARIABLE = "CLIPSERVE_API_KEY"
DEFAULT_URL = "http://127.0.0.1:8000"
# Longer than servers let a request take.
_TIMEOUT = 300
_BLOCK_BYTES = 1 << 18
_SEGMENTATION = "image_segmentation"
_KINDS = {"http": HTTPConnection, "https": HTTPSConnection}


class ClientError(Exception):
    """There is no answer, or it is a refusal; the message is for people."""


@dataclass(frozen=True)
class Answer:
    """What came back.

    Attributes:
        status: Of HTTP.
        body: JSON, from a server of ours.
        retry_after: Seconds that a refusal asks its client to wait; 0: it does not.
    """

    status: int
    body: bytes
    retry_after: int = 0

    def content(self) -> dict[str, Any]:
        """Return what was asked for.

        Raises:
            ClientError: It was refused; the message is the server's.
        """
        try:
            content: dict[str, Any] = json.loads(self.body)
            if self.status == 200:
                return content
            reason = f"{content['code']}: {content['detail']}"
        except (ValueError, LookupError, TypeError):
            reason = f"not a clipserve server's answer: {self.body[:200]!r}"
        cure = f" (the key is taken from {KEY_VARIABLE})" if self.status == HTTPStatus.UNAUTHORIZED else ""
        raise ClientError(f"{self.status} {reason}{cure}")


class Client:
    """A connection to a server, which is kept while the server does.

    Args:
        url: Of the server, with or without a path before ours.
        key: What it knows us by; empty: nothing.

    Raises:
        ClientError: The address is none.
    """

    def __init__(self, url: str, key: str = "") -> None:
        try:
            parts = urlsplit(url)
            host, port, kind = parts.hostname, parts.port, _KINDS.get(parts.scheme)
        except ValueError:
            host = port = kind = None
        if not host or not kind:
            raise ClientError(f"{url!r} is not the address of a server: write it as {DEFAULT_URL}")
        self._connection = kind(host, port, timeout=_TIMEOUT, blocksize=_BLOCK_BYTES)
        self._url = url
        self._prefix = parts.path.rstrip("/")
        self._headers = {"Authorization": f"Bearer {key}"} if key else {}

    def get(self, path: str) -> Answer:
        """Ask for a path.

        Raises:
            ClientError: No answer came.
        """
        return self._ask("GET", path, None, {})

    def post(self, path: str, body: bytes | BinaryIO) -> Answer:
        """Send a body, a file as it is read, and return the answer.

        Raises:
            ClientError: No answer came.
        """
        headers = {"Content-Type": "application/octet-stream"}
        if not isinstance(body, bytes):
            stat = os.fstat(body.fileno())
            # Of a pipe nobody knows the length; it goes in chunks.
            headers |= {"Content-Length": str(stat.st_size)} if S_ISREG(stat.st_mode) else {}
        return self._ask("POST", path, body, headers)

    def _ask(self, method: str, path: str, body: bytes | BinaryIO | None, headers: dict[str, str]) -> Answer:
        try:
            whole = self._send(method, path, body, headers)
            response = self._connection.getresponse()
            wait = response.headers.get("Retry-After", "")
            # What is between may write a date instead.
            seconds = int(wait) if wait.isascii() and wait.isdecimal() else 0
            answer = Answer(response.status, response.read(), seconds)
        except (OSError, HTTPException) as error:
            self._connection.close()
            cure = (
                "; start one with `clipserve serve`, or give --url" if isinstance(error, ConnectionRefusedError) else ""
            )
            raise ClientError(f"no answer from {self._url}: {str(error) or type(error).__name__}{cure}") from error
        if not whole:
            self._connection.close()
        return answer

    def _send(self, method: str, path: str, body: bytes | BinaryIO | None, headers: dict[str, str]) -> bool:
        """Send a request; return whether it was taken to its end, which a server that refuses it early need not do."""
        try:
            self._connection.request(method, self._prefix + path, body, self._headers | headers)
        except (BrokenPipeError, ConnectionResetError):
            return False
        return True


def add_server_options(parser: argparse.ArgumentParser) -> None:
    """Take what says whom to ask."""
    parser.add_argument("--url", default=DEFAULT_URL, help="of the server (default %(default)s)")
    parser.add_argument("--model", metavar="NAME[/VERSION]", help="which to ask (default: the one behind /v1/classify)")


def connect(arguments: argparse.Namespace) -> Client:
    """Return a connection to the server that the options name, with the key of the environment.

    Raises:
        ClientError: The address is none, or the key.
    """
    key = os.environ.get(KEY_VARIABLE, "")
    if not (key.isascii() and key.isprintable()):
        raise ClientError(f"{KEY_VARIABLE} is no key: it has letters that none has, maybe the end of a line")
    return Client(arguments.url, key)


def path_of(client: Client, model: str | None, **query: object) -> str:
    """Return the path that takes media for a model, or None: for the default one that classifies.

    Args:
        client: Asked what the model does.
        model: Its name, or name/version.
        query: Parameters.

    Raises:
        ClientError: There is no such model, or no answer.
    """
    path = "/v1/classify"
    if model is not None:
        name, slash, version = model.partition("/")
        path = f"/v1/models/{quote(name, safe='')}" + (f"/versions/{quote(version, safe='')}" if slash else "")
        segments = client.get(path).content()["task"] == _SEGMENTATION
        path += "/segment" if segments else "/classify"
        query |= {"output": "rle"} if segments else {}
    return f"{path}?{urlencode(query)}" if query else path


def report_failure(error: Exception, file: object = None) -> int:
    """Print why there is no answer, for a file if it is one's fault, and return the exit status of such a run."""
    reason = error.strerror if isinstance(error, OSError) else error
    print(f"clipserve: {reason}" if file is None else f"clipserve: {file}: {reason}", file=sys.stderr)
    return 1

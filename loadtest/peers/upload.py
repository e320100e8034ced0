"""One clip as a request, sent as a caller of the load, as one who wants the answer, or by one who leaves."""

from __future__ import annotations

import json
import socket
from contextlib import closing
from http.client import HTTPConnection, HTTPException
from typing import Any

from service.load import Caller

TIMEOUT = 120
BOUNDARY = "clip-boundary"


class Upload:
    """A POST of a clip to a port of the loopback address.

    Args:
        path: Where to.
        clip: An encoded video.
        form: Whether it goes as the part `file` of a form, or as the body itself.
    """

    def __init__(self, path: str, clip: bytes, form: bool) -> None:
        self.path = path
        self.headers = {"Content-Type": "application/octet-stream"}
        self.body = clip
        if form:
            disposition = 'Content-Disposition: form-data; name="file"; filename="clip.mp4"'
            head = f"--{BOUNDARY}\r\n{disposition}\r\nContent-Type: video/mp4\r\n\r\n"
            self.headers = {"Content-Type": f"multipart/form-data; boundary={BOUNDARY}"}
            self.body = head.encode() + clip + f"\r\n--{BOUNDARY}--\r\n".encode()

    def answer(self, port: int) -> dict[str, Any]:
        """Return what the server says of the clip.

        Raises:
            SystemExit: It refuses it.
        """
        with closing(HTTPConnection("127.0.0.1", port, timeout=TIMEOUT)) as connection:
            connection.request("POST", self.path, self.body, self.headers)
            response = connection.getresponse()
            content = response.read()
        if response.status != 200:
            raise SystemExit(f"{self.path} answered {response.status}: {content[:500].decode(errors='replace')}")
        answer: dict[str, Any] = json.loads(content)
        return answer

    def leave(self, port: int) -> socket.socket:
        """Send the request and return its connection, to be closed before the answer comes."""
        head = f"POST {self.path} HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: {len(self.body)}\r\n"
        head += "".join(f"{name}: {value}\r\n" for name, value in self.headers.items())
        connection = socket.create_connection(("127.0.0.1", port), timeout=TIMEOUT)
        connection.sendall(f"{head}\r\n".encode() + self.body)
        return connection


class UploadCaller(Caller):
    """A caller of the closed loop with a connection of its own.

    Attributes:
        answers: How many it has had, those before and after the time that the loop counts among them.
    """

    def __init__(self, upload: Upload, port: int) -> None:
        self._upload = upload
        self._connection = HTTPConnection("127.0.0.1", port, timeout=TIMEOUT)
        self.pause = 0
        self.answers = 0

    def post(self) -> int:
        """Send the clip; return the answer's status, or 0 if the connection was lost."""
        upload = self._upload
        try:
            self._connection.request("POST", upload.path, upload.body, upload.headers)
            response = self._connection.getresponse()
            response.read()
        except (OSError, HTTPException):
            self._connection.close()
            return 0
        self.answers += 1
        return response.status

"""The page at / and its files, as any client gets them."""

from pathlib import Path

import httpx
import pytest

import service
from tests.server import RunningServer

FOLDER = Path(service.__file__).parent / "web"


@pytest.mark.parametrize("range_", ["bytes=0-3", "bytes=0-3,5-6", "bytes=999999999-", "bytes=abc", "lines=1-2"])
@pytest.mark.parametrize(("path", "file"), [("/", "index.html"), ("/web/page.js", "page.js")])
def test_file_comes_whole_whatever_part_is_asked_for(server: RunningServer, path: str, file: str, range_: str) -> None:
    answer = httpx.get(f"{server.url}{path}", headers={"Range": range_})
    assert (answer.status_code, answer.content) == (200, (FOLDER / file).read_bytes())
    assert "accept-ranges" not in answer.headers


def test_head_tells_the_size(server: RunningServer) -> None:
    answer = httpx.head(f"{server.url}/web/icon.svg")
    assert (answer.status_code, answer.content) == (200, b"")
    assert answer.headers["content-type"] == "image/svg+xml"
    assert int(answer.headers["content-length"]) == (FOLDER / "icon.svg").stat().st_size

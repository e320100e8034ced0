"""The page at /docs: all that the description of the API says, and nothing from anywhere else."""

from html.parser import HTMLParser
from urllib.parse import urljoin, urlsplit

import httpx

from tests.server import RunningServer

# Of a page without any script there are these; each may name what a browser loads or goes to.
ADDRESSES = {"src", "href", "action", "srcset", "data", "poster", "formaction"}


class Page(HTMLParser):
    """What is on a page.

    Attributes:
        tags: Their names.
        addresses: What it loads and links to.
        anchors: Where links within the page lead.
        text: What a reader sees.
    """

    def __init__(self, html: str) -> None:
        super().__init__()
        self.tags, self.addresses, self.anchors = set[str](), set[str](), set[str]()
        self.text = ""
        self.feed(html)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.add(tag)
        self.addresses |= {value or "" for name, value in attrs if name in ADDRESSES}
        self.anchors |= {value or "" for name, value in attrs if name == "id"}

    def handle_data(self, data: str) -> None:
        self.text += data


def test_page_has_every_path_parameter_and_field(server: RunningServer) -> None:
    page = Page(httpx.get(f"{server.url}/docs").text)
    document = httpx.get(f"{server.url}/openapi.json").json()
    for path, methods in document["paths"].items():
        for method, operation in methods.items():
            assert f"{method.upper()} {path}\n" in page.text
            assert operation["description"] in page.text
            for parameter in operation.get("parameters", []):
                assert f"{parameter['name']} ({parameter['in']})" in page.text
                assert parameter["schema"].get("description", "") in page.text
    schemas = document["components"]["schemas"]
    assert page.anchors == schemas.keys()
    for schema in schemas.values():
        for field in schema["properties"]:
            assert field in page.text


def test_page_runs_no_script_and_loads_nothing_from_elsewhere(server: RunningServer) -> None:
    answer = httpx.get(f"{server.url}/docs")
    assert answer.headers["content-type"] == "text/html; charset=utf-8"
    assert "default-src 'none'" in answer.headers["content-security-policy"]
    assert answer.headers["x-content-type-options"] == "nosniff"
    page = Page(answer.text)
    assert not page.tags & {"script", "iframe", "object", "embed", "style", "form"}
    within = {address[1:] for address in page.addresses if address.startswith("#")}
    assert within <= page.anchors
    others = {address for address in page.addresses if not address.startswith("#")}
    assert others == {"web/icon.svg", "web/page.css", "openapi.json", "./"}
    for address in others:
        target = urljoin(f"{server.url}/docs", address)
        assert urlsplit(target).netloc == urlsplit(server.url).netloc
        assert httpx.get(target).status_code == 200

"""GET /: the page by which a person tries the server, and the files that it loads."""

from __future__ import annotations

from pathlib import Path

from fastapi import APIRouter, HTTPException
from fastapi.responses import Response

router = APIRouter(include_in_schema=False)

_FOLDER = Path(__file__).parents[1] / "web"
# The types are stated here, because a host's own table may lack one and `nosniff` would then block the file.
_TYPES = {"page.css": "text/css", "page.js": "text/javascript", "icon.svg": "image/svg+xml"}
HEADERS = {
    "Content-Security-Policy": (
        "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; "
        "img-src blob: 'self'; media-src blob: 'self'; "
        "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    ),
    "X-Content-Type-Options": "nosniff",
    # An updated server must not meet the script of the old one.
    "Cache-Control": "no-cache",
}


@router.get("/")
def page() -> Response:
    """Return the page."""
    return _file("index.html", "text/html")


@router.get("/web/{name}")
def page_file(name: str) -> Response:
    """Return one of the page's files; a name that is not in the table never reaches the file system."""
    if name not in _TYPES:
        raise HTTPException(404, f"the page has no file {name!r:.80}")
    return _file(name, _TYPES[name])


def _file(name: str, media_type: str) -> Response:
    """Return all of a file, which is small: a FileResponse would take Range, and refuse a wrong one in its own form."""
    return Response((_FOLDER / name).read_bytes(), headers=HEADERS, media_type=media_type)

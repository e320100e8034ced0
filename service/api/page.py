"""GET /: the page by which a person tries the server, and the files that it loads."""

from __future__ import annotations

from pathlib import Path

from fastapi import APIRouter, HTTPException
from fastapi.responses import FileResponse

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
async def page() -> FileResponse:
    """Return the page."""
    return FileResponse(_FOLDER / "index.html", headers=HEADERS, media_type="text/html")


@router.get("/web/{name}")
async def page_file(name: str) -> FileResponse:
    """Return one of the page's files; a name that is not in the table never reaches the file system."""
    if name not in _TYPES:
        raise HTTPException(404, f"the page has no file {name!r:.80}")
    return FileResponse(_FOLDER / name, headers=HEADERS, media_type=_TYPES[name])

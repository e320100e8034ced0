"""GET /docs: what /openapi.json says, for people: one page without a script, which loads nothing from elsewhere."""

from __future__ import annotations

from collections.abc import Iterable
from html import escape
from typing import Any

from fastapi import APIRouter, Request
from fastapi.responses import HTMLResponse

from service.api.page import HEADERS

router = APIRouter(include_in_schema=False)

_BOUNDS = {"minimum": "&ge;", "exclusiveMinimum": "&gt;", "maximum": "&le;", "exclusiveMaximum": "&lt;"}
_REFERENCE = "#/components/schemas/"

# Paths are relative, as on the page at /.
_PAGE = """<!doctype html>
<html lang="en">
<head>
  <meta charset="utf-8">
  <meta name="viewport" content="width=device-width, initial-scale=1">
  <meta name="color-scheme" content="light dark">
  <title>clipserve: HTTP API</title>
  <link rel="icon" href="web/icon.svg" type="image/svg+xml">
  <link rel="stylesheet" href="web/page.css">
</head>
<body>
  <header>
    <h1>clipserve {version}: HTTP API</h1>
    <p>{summary} <a href="./">Try it</a> with a file of your own. Programs read <a href="openapi.json">openapi.json</a>
    (OpenAPI 3.1): Swagger UI, generators of clients.</p>
  </header>
  <main class="reference">
{sections}
  </main>
</body>
</html>
"""


@router.get("/docs")
async def reference(request: Request) -> HTMLResponse:
    """Return the page."""
    state = request.app.state
    if not hasattr(state, "reference"):
        state.reference = reference_page(request.app.openapi())
    return HTMLResponse(state.reference, headers=HEADERS)


def reference_page(document: dict[str, Any]) -> str:
    """Return the page for a description in OpenAPI's form."""
    parts: dict[str, list[str]] = {}
    for path, methods in document["paths"].items():
        for method, operation in methods.items():
            parts.setdefault(operation["tags"][0], []).append(_operation(method.upper(), path, operation))
    parts["JSON objects"] = [_object(name, schema) for name, schema in document["components"]["schemas"].items()]
    sections = [f"<section>\n<h2>{escape(title)}</h2>\n{''.join(part)}</section>" for title, part in parts.items()]
    info = document["info"]
    return _PAGE.format(version=escape(info["version"]), summary=escape(info["summary"]), sections="\n".join(sections))


def _operation(method: str, path: str, operation: dict[str, Any]) -> str:
    parameters = _table(
        (f"{parameter['name']} ({parameter['in']})", _kind(parameter["schema"]), parameter.get("description", ""))
        for parameter in operation.get("parameters", [])
    )
    body = escape(", ".join(operation.get("requestBody", {}).get("content", ())))
    answers = _table(
        (status, ", ".join(_content(*of_type) for of_type in answer.get("content", {}).items()), answer["description"])
        for status, answer in operation["responses"].items()
    )
    return (
        f"<h3><code>{method} {escape(path)}</code></h3>\n<p>{escape(operation['description'])}</p>\n{parameters}"
        + (f"<p>Body: {body}</p>\n" if body else "")
        + f"<details>\n<summary>Answers</summary>\n{answers}</details>\n"
    )


def _content(media_type: str, content: dict[str, Any]) -> str:
    schema = content["schema"]
    return " ".join([escape(media_type), *([] if schema.get("format") == "binary" else [_kind(schema)])]).rstrip()


def _object(name: str, schema: dict[str, Any]) -> str:
    fields = _table((field, _kind(kind), kind.get("description", "")) for field, kind in schema["properties"].items())
    about = escape(schema.get("description", ""))
    return f'<h3 id="{escape(name)}"><code>{escape(name)}</code></h3>\n<p>{about}</p>\n{fields}'


def _table(rows: Iterable[tuple[str, str, str]]) -> str:
    """Return rows of a name, HTML that says what may be there, and a text; nothing if there are none."""
    lines = "".join(
        f'<tr><th scope="row"><code>{escape(name)}</code></th><td>{kind}</td><td>{escape(about)}</td></tr>\n'
        for name, kind, about in rows
    )
    return f"<table>\n{lines}</table>\n" if lines else ""


def _kind(schema: dict[str, Any]) -> str:
    """Return as HTML which values a schema allows; empty: any."""
    if "$ref" in schema:
        name = escape(schema["$ref"].removeprefix(_REFERENCE))
        return f'<a href="#{name}">{name}</a>'
    if "anyOf" in schema:
        kind = " or ".join(map(_kind, schema["anyOf"]))
    elif "enum" in schema:
        kind = " | ".join(escape(str(value)) for value in schema["enum"])
    elif "items" in schema:
        kind = f"list of {_kind(schema['items'])}"
    else:
        kind = escape(str(schema.get("type", schema.get("const", ""))))
    bounds = [f" {sign} {schema[name]:g}" for name, sign in _BOUNDS.items() if name in schema]
    default = f", default {escape(str(schema['default']))}" if schema.get("default") is not None else ""
    return "".join([kind, *bounds, default])

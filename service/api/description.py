"""The application's description (`/openapi.json`), with errors in the form in which they come."""

from __future__ import annotations

from typing import Any

from fastapi import FastAPI

from service.api.problems import MEDIA_TYPE, PROTOCOL_PREFIX

_PROBLEM = {"$ref": "#/components/schemas/Problem"}
_PROTOCOL_ERROR = {"type": "object", "required": ["error"], "properties": {"error": {"type": "string"}}}
# What the framework describes and never sends, since the service has errors of its own.
_UNSENT = ("HTTPValidationError", "ValidationError")


class DescribedApp(FastAPI):
    """An application whose description names the service's own errors."""

    def openapi(self) -> dict[str, Any]:
        """Return the description as JSON."""
        if self.openapi_schema is None:
            self.openapi_schema = _with_own_errors(super().openapi())
        return self.openapi_schema


def _with_own_errors(document: dict[str, Any]) -> dict[str, Any]:
    for path, operations in document["paths"].items():
        for operation in operations.values():
            operation["responses"] = _responses(operation["responses"], f"{path}/".startswith(f"{PROTOCOL_PREFIX}/"))
    for name in _UNSENT:
        document["components"]["schemas"].pop(name, None)
    return document


def _responses(described: dict[str, Any], is_protocol: bool) -> dict[str, Any]:
    """Return the answers of an operation: those that say what they are for, and any other error."""
    responses = {}
    for status, answer in described.items():
        schema = answer.get("content", {}).get("application/json", {}).get("schema", {})
        if schema == _PROBLEM:
            answer = {**answer, "content": {MEDIA_TYPE: {"schema": _PROBLEM}}}
        if not schema.get("$ref", "").endswith(_UNSENT):
            responses[status] = answer
    kind, schema = ("application/json", _PROTOCOL_ERROR) if is_protocol else (MEDIA_TYPE, _PROBLEM)
    return {**responses, "default": {"description": "any other error", "content": {kind: {"schema": schema}}}}

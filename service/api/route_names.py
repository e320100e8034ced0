"""What metrics and logs call the path of a request: its route, since names must not grow with what is asked for."""

from __future__ import annotations

import re
from functools import cached_property

from fastapi import FastAPI
from fastapi.routing import iter_route_contexts
from starlette.routing import compile_path
from starlette.types import Scope

# In place of the route, where there is none.
NO_ROUTE = "unknown"


class RouteNames:
    """The templates of an application's routes.

    Args:
        app: It has all of its routes when the first request comes.
    """

    def __init__(self, app: FastAPI) -> None:
        self._app = app

    @cached_property
    def _templates(self) -> list[tuple[re.Pattern[str], str]]:
        templates = [str(route.path) for route in iter_route_contexts(self._app.routes)]
        return [(compile_path(template)[0], template) for template in templates]

    def of(self, scope: Scope) -> str:
        """Return the template of a request's path, also if the request was refused before any route had it."""
        path = scope["path"]
        return next((template for pattern, template in self._templates if pattern.fullmatch(path)), NO_ROUTE)

"""Let pages of other sites call the server; a preflight that is refused says why, like every other refusal."""

from __future__ import annotations

from starlette.datastructures import Headers
from starlette.middleware.cors import CORSMiddleware
from starlette.responses import Response

from service.errors import CorsRefusedError


class Cors(CORSMiddleware):
    """The framework's middleware, but for its refusals: whatever is outside turns a ServiceError into an answer."""

    def preflight_response(self, request_headers: Headers) -> Response:
        """Return the answer to a preflight.

        Raises:
            CorsRefusedError: The page may not.
        """
        answer = super().preflight_response(request_headers)
        if answer.status_code < 400:
            return answer
        origin, method = request_headers["origin"], request_headers["access-control-request-method"]
        headers = request_headers.get("access-control-request-headers", "")
        raise CorsRefusedError(
            f"{bytes(answer.body).decode()}: a page of {origin!r:.100} asks for {method!r:.20} with the headers "
            f"{headers!r:.300}; allowed are the sites in the setting cors_origins, the methods "
            f"{', '.join(self.allow_methods)} and the headers {', '.join(self.allow_headers)}"
        )

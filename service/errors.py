"""The service's exceptions. Each knows the HTTP status and the stable code that a client sees.

ServiceError
|-- BadRequestError           400  not HTTP
|-- BadParameterError         400  a query parameter or the form is wrong
|-- CorsRefusedError          400  a page of another site may not
|-- WrongTaskError            400  the model answers another question
|-- LoadFailedError           400  what was to be loaded cannot be
|-- UnauthorizedError         401  no key, or none that the server knows
|-- ForbiddenError            403  not with this key
|-- UnknownModelError         404  no such model, or not in that version
|-- UploadStalledError        408  the rest of the body does not come
|-- PayloadTooLargeError      413  the body is over the limit
|-- UnsupportedMediaError     415  not a container format or codec that is taken
|-- UndecodableMediaError     422  taken, but broken
|   `-- MediaLimitError       422  sound, but over a decode limit
|-- QueueFullError            429  shed; try again later
|   `-- OverloadedError       429  there is room, but not the time to do it
|-- RateLimitedError          429  this key asks too often
|-- HeaderTooLargeError       431  the request line and headers are over the limit
|-- UnsupportedError          501  it cannot be done the way the server is set up
|-- NotReadyError             503  starting or draining, or the model is being loaded or does not run
|-- DeadlineExceededError     504  the request was not done in time
`-- InternalError             500  ours to mend; the text is fixed, the log has the rest
    `-- WorkerLostError       500  the process that decoded this upload was stopped from outside

ManifestError, RuntimeLoadError (below) stop the start of the server; later they are why a version is not served.
"""

from __future__ import annotations


class ServiceError(Exception):
    """Base of everything that becomes a problem+json answer.

    Attributes:
        status: HTTP status.
        code: Stable machine-readable code.
        title: Short text that is the same for every occurrence of the code.
        detail: What happened: the value, the limit, what to do.
        retry_after: Seconds after which trying again makes sense, or None.
    """

    status = 500
    code = "internal_error"
    title = "Internal error"

    def __init__(self, detail: str, *, retry_after: int | None = None) -> None:
        super().__init__(detail)
        self.detail = detail
        self.retry_after = retry_after


class BadRequestError(ServiceError):
    """What came is not an HTTP request."""

    status, code, title = 400, "bad_request", "Bad request"


class BadParameterError(ServiceError):
    """A query parameter or the form is wrong."""

    status, code, title = 400, "bad_parameter", "Bad parameter"


class CorsRefusedError(ServiceError):
    """A page of another site asked for what pages of that site may not."""

    status, code, title = 400, "cors_refused", "Not allowed to a page of another site"


class WrongTaskError(ServiceError):
    """The model answers another question than the one that was asked."""

    status, code, title = 400, "wrong_task", "Wrong task"


class UnauthorizedError(ServiceError):
    """No key came with the request, or none that the server knows."""

    status, code, title = 401, "unauthorized", "Unauthorized"


class ForbiddenError(ServiceError):
    """The request needs another key than the one it came with."""

    status, code, title = 403, "forbidden", "Forbidden"


class LoadFailedError(ServiceError):
    """What was to be loaded cannot be."""

    status, code, title = 400, "load_failed", "Model cannot be loaded"


class UnknownModelError(ServiceError):
    """No loaded model has that name, or that version."""

    status, code, title = 404, "unknown_model", "Unknown model"


class UploadStalledError(ServiceError):
    """The client has stopped sending the body."""

    status, code, title = 408, "upload_stalled", "Request timeout"


class PayloadTooLargeError(ServiceError):
    """The body is larger than the limit."""

    status, code, title = 413, "payload_too_large", "Payload too large"


class UnsupportedMediaError(ServiceError):
    """The body is no container format, or holds no codec, that is taken."""

    status, code, title = 415, "unsupported_media", "Unsupported media type"


class UndecodableMediaError(ServiceError):
    """The body is of a format that is taken but cannot be decoded."""

    status, code, title = 422, "undecodable_media", "Undecodable media"


class MediaLimitError(UndecodableMediaError):
    """Decoding the body would take more than a limit allows."""

    code, title = "media_limit_exceeded", "Media over a decode limit"


class QueueFullError(ServiceError):
    """More work is waiting than the queue may hold."""

    status, code, title = 429, "queue_full", "Too many requests"


class OverloadedError(QueueFullError):
    """What is waiting already takes longer than the request may, or has taken so."""

    code = "overloaded"


class RateLimitedError(ServiceError):
    """The request's key has asked more often than it may."""

    status, code, title = 429, "rate_limited", "Too many requests"


class HeaderTooLargeError(ServiceError):
    """The request line and headers are larger than the limit."""

    status, code, title = 431, "header_too_large", "Request header fields too large"


class UnsupportedError(ServiceError):
    """It cannot be done the way the server is set up."""

    status, code, title = 501, "unsupported", "Not supported"


class NotReadyError(ServiceError):
    """The server is starting or draining, or the model is being loaded or its runtime hangs or fails."""

    status, code, title = 503, "not_ready", "Not ready"


class DeadlineExceededError(ServiceError):
    """The request was not answered within its deadline."""

    status, code, title = 504, "deadline_exceeded", "Deadline exceeded"


class InternalError(ServiceError):
    """A fault of the server."""


class WorkerLostError(InternalError):
    """The process that decoded this upload was stopped from outside."""

    code, title = "decode_worker_lost", "Decode worker lost"


class ManifestError(Exception):
    """An artefact folder cannot be served: manifest missing or invalid, file missing, digest wrong."""


class RuntimeLoadError(Exception):
    """A runtime cannot load a model, or would not run it on the provider that was asked for."""

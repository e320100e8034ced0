"""How log lines look: text for people or JSON for programs, with what is known of the request that they belong to."""

from __future__ import annotations

import json
import logging
from datetime import UTC, datetime
from typing import Any, Literal

from service.context import current_request

LogFormat = Literal["text", "json"]
TEXT = "%(asctime)s %(levelname)s [%(process)d] %(about)s %(name)s: %(message)s"


class _AddRequest(logging.Filter):
    """Gives every line the id of the request ("-" outside of any) and what else is known of it."""

    def filter(self, record: logging.LogRecord) -> bool:
        request = current_request()
        fields = request.log_fields if request else {"request_id": "-"}
        own_id, *others = fields.items()
        record.request = fields
        record.about = " ".join([own_id[1], *(f"{name}={value}" for name, value in others)])
        return True


class JsonFormatter(logging.Formatter):
    """One JSON object a line; what a line has in `fields` stands beside the rest."""

    def format(self, record: logging.LogRecord) -> str:
        line: dict[str, Any] = {
            "time": datetime.fromtimestamp(record.created, UTC).isoformat(),
            "level": record.levelname,
            "process": record.process,
            "logger": record.name,
            **getattr(record, "request", {}),
            "message": record.getMessage(),
            **getattr(record, "fields", {}),
        }
        if record.exc_info:
            line["exception"] = self.formatException(record.exc_info)
        return json.dumps(line)


def configure_logging(log_format: LogFormat) -> None:
    """Send the log of this process to standard error."""
    handler = logging.StreamHandler()
    handler.addFilter(_AddRequest())
    handler.setFormatter(JsonFormatter() if log_format == "json" else logging.Formatter(TEXT))
    logging.basicConfig(level=logging.INFO, handlers=[handler])
    # Its "startup complete" comes before the models are loaded, and its other steps bury the reason of a failed start.
    logging.getLogger("uvicorn.error").setLevel(logging.WARNING)

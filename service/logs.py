"""How log lines look."""

from __future__ import annotations

import logging


def configure_logging() -> None:
    """Send the log of this process to standard error."""
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s [%(process)d] %(name)s: %(message)s")

"""The export stage's exceptions.

ExportError
`-- VerificationError   a written file does not compute what the torch network computes
"""

from __future__ import annotations


class ExportError(Exception):
    """An export cannot be finished; nothing was written."""


class VerificationError(ExportError):
    """A written file does not compute what the torch network computes."""

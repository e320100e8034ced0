"""A multipart form, parsed as it comes."""

from __future__ import annotations

import python_multipart
from python_multipart.exceptions import FormParserError
from python_multipart.multipart import parse_options_header

from service.api.body import FORM_ALLOWANCE
from service.api.memory_files import HeldBytes
from service.api.raw import RawSink
from service.errors import BadParameterError, PayloadTooLargeError

FILE_FIELD = b"file"
# No file has a longer name (PATH_MAX of <linux/limits.h>).
_LONGEST_NAME_BYTES = 4096
_NAME_ADVICE = (
    "; the form's part `file` is short and has no file name: did you forget the @? Use `-F file=@FILE`, or "
    "`--data-binary @FILE` without a form"
)


class FormSink:
    """Parses a multipart form as it comes and writes its one part, `file`.

    What else may be in a form is little: parsing countless bytes beside the file would keep the event loop busy.
    """

    def __init__(self, boundary: bytes, target: RawSink, held: HeldBytes) -> None:
        self._target = target
        self._held = held
        self._size = 0
        self._header_name = b""
        self._header_value = b""
        self._part_name: bytes | None = None
        self._has_file_name = False
        self._files = 0
        self._begun = self._ended = False
        self._parser = python_multipart.MultipartParser(
            boundary,
            {
                "on_part_begin": self._begin_part,
                "on_header_field": self._header_field,
                "on_header_value": self._header_value_part,
                "on_header_end": self._header_end,
                "on_headers_finished": self._check_part,
                "on_part_data": self._part_data,
                "on_end": self._end,
            },
        )

    @property
    def advice(self) -> str:
        """What to do if the file turns out to be no medium: curl sends its name alone if the @ is missing."""
        return "" if self._has_file_name or self._held.size > _LONGEST_NAME_BYTES else _NAME_ADVICE

    def write(self, chunk: bytes) -> None:
        """Take the next bytes of the form.

        Raises:
            BadParameterError: It is broken, or has a part that is not the one file.
            PayloadTooLargeError: The file goes over the request's own cap, or what is beside it over FORM_ALLOWANCE.
            QueueFullError: As RawSink.write.
        """
        self._size += len(chunk)
        try:
            self._parser.write(chunk)
        except FormParserError as error:
            # A text before the first boundary, which RFC 2046 allows and nobody sends, the parser does not take.
            first = (
                "" if self._begun else "; it must begin with the boundary of its Content-Type, and nothing before it"
            )
            raise BadParameterError(f"the multipart form is broken: {error}{first}") from error
        if self._size - self._held.size > FORM_ALLOWANCE:
            raise PayloadTooLargeError(
                f"the form has more than {FORM_ALLOWANCE} bytes beside its `file`, which is the limit: "
                "send the file alone"
            )

    def finish(self) -> None:
        """Check, once everything came, that it was a whole form with a file.

        Raises:
            BadParameterError: It was not.
        """
        if not self._ended:
            raise BadParameterError("the multipart form ends without its last boundary")
        if not self._files:
            raise BadParameterError("the form has no part `file`: send exactly one")

    def _begin_part(self) -> None:
        self._begun = True
        self._part_name = None

    def _header_field(self, data: bytes, start: int, end: int) -> None:
        self._header_name += data[start:end]

    def _header_value_part(self, data: bytes, start: int, end: int) -> None:
        self._header_value += data[start:end]

    def _header_end(self) -> None:
        if self._header_name.lower() == b"content-disposition":
            _, parameters = parse_options_header(self._header_value)
            self._part_name = parameters.get(b"name")
            self._has_file_name = b"filename" in parameters
        self._header_name = self._header_value = b""

    def _check_part(self) -> None:
        if self._part_name != FILE_FIELD:
            name = "without a name" if self._part_name is None else f"{self._part_name.decode(errors='replace')!r:.80}"
            raise BadParameterError(
                f"the form has a part {name}, and takes `file` alone: options go into the query (?top_k=1)"
            )
        self._files += 1
        if self._files > 1:
            raise BadParameterError("the form has more than one part `file`: send exactly one")

    def _part_data(self, data: bytes, start: int, end: int) -> None:
        self._target.write(data[start:end])

    def _end(self) -> None:
        self._ended = True
